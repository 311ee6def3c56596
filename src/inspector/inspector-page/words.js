// @ts-check
/** The texts of the page. English is also in the HTML, for the moment before this is loaded. */

/** @type {Record<string, Record<string, string>>} */
const WORDS = {
  en: {
    skip: 'Skip to the streams',
    inspector: 'Inspector',
    open: 'Live',
    connecting: 'Connecting',
    refused: 'Not signed in, or not allowed',
    processes: 'Processes',
    rates: 'The last two minutes of this process',
    deliveries: 'Deliveries per second',
    bytes: 'Bytes per second',
    openedClosed: 'Opened and closed per second',
    furthest: 'Furthest behind, in entries',
    counts: 'Since this process started',
    closed: 'Closed',
    gaps: 'Gaps',
    refusals: 'Refused',
    failed: 'Failed sends',
    none: 'none',
    streams: 'Streams',
    channels: 'Channels',
    search: 'Client or #channel',
    searchChannel: 'Part of the name',
    order: 'Order',
    byBehind: 'Furthest behind',
    byId: 'By client',
    follow: 'Refresh',
    noStreams: 'No stream matches.',
    noChannels: 'No channel matches.',
    keys: 'Keys: / search, r refresh, arrows to move, Enter to open, Esc to close',
    client: 'Client',
    process: 'Process',
    state: 'State',
    behind: 'Behind',
    buffered: 'Buffered',
    inChannels: 'Channels',
    carriedBy: 'Carried by',
    channel: 'Channel',
    opening: 'opening',
    live: 'live',
    blocked: 'blocked',
    parked: 'parked',
    cursor: 'Cursor',
    tail: 'Tail',
    waiting: 'Entries waiting',
    lastEventId: 'Resumed from',
    sent: 'Sent to it, newest first',
    sentHint:
      'From the window of its process. Entries that are older than the stream are pale: they were replayed to it, received before, or not sent.',
    nothingSent: 'The window holds nothing that was sent to it.',
    refresh: 'Refresh',
    close: 'Close',
    sendTitle: 'Send a test event',
    sendTo: 'Send it an event',
    to: 'To',
    aClient: 'a client',
    aChannel: 'a channel',
    everyone: 'everyone',
    name: 'Id or name',
    event: 'Event',
    data: 'Data',
    send: 'Send',
    remove: 'Remove the client',
    removeAgain: 'Press again to end all its streams',
    drain: 'Drain',
    drainAgain: 'Press again: {n} streams reconnect',
    wasSent: 'Sent, entry {id}',
    wasRemoved: 'Removed, entry {id}',
    isDraining: '{n} streams reconnect within 10 seconds',
    failedAction: 'This failed: {why}',
    missing: 'No answer from {names}: their streams are not shown.',
    silent: 'No inspector, or an older version, on {names}: their streams are not shown.',
    alone: 'The log is out of reach: only this process is shown.',
    sum: '{clients} clients, {streams} streams',
    of: '{shown} of {total} loaded',
    window: 'window',
    logUp: 'log up',
    logDown: 'log down',
    draining: 'draining',
    thisProcess: '{name} (this process)',
    comma: ', ',
    gone: 'The stream has closed.',
  },
  zh: {
    skip: '跳到事件流列表',
    inspector: '检查器',
    open: '实时',
    connecting: '正在连接',
    refused: '未登录或无权限',
    processes: '进程',
    rates: '本进程最近两分钟',
    deliveries: '每秒投递数',
    bytes: '每秒字节数',
    openedClosed: '每秒打开与关闭',
    furthest: '最大落后条目数',
    counts: '本进程启动以来',
    closed: '已关闭',
    gaps: '缺口',
    refusals: '已拒绝',
    failed: '发送失败',
    none: '无',
    streams: '事件流',
    channels: '频道',
    search: '客户端或 #频道',
    searchChannel: '名称的一部分',
    order: '排序',
    byBehind: '落后最多',
    byId: '按客户端',
    follow: '自动刷新',
    noStreams: '没有匹配的事件流。',
    noChannels: '没有匹配的频道。',
    keys: '快捷键：/ 搜索，r 刷新，方向键移动，Enter 打开，Esc 关闭',
    client: '客户端',
    process: '进程',
    state: '状态',
    behind: '落后',
    buffered: '缓冲',
    inChannels: '频道',
    carriedBy: '传输方式',
    channel: '频道',
    opening: '打开中',
    live: '实时',
    blocked: '阻塞',
    parked: '等待日志',
    cursor: '游标',
    tail: '日志末尾',
    waiting: '待发条目',
    lastEventId: '恢复起点',
    sent: '已发送（最新在前）',
    sentHint:
      '来自该进程的窗口。早于该事件流的条目以浅色显示：可能是重放的、之前已收到的，或未曾发送的。',
    nothingSent: '窗口中没有发给它的条目。',
    refresh: '刷新',
    close: '关闭',
    sendTitle: '发送测试事件',
    sendTo: '向它发送事件',
    to: '发给',
    aClient: '一个客户端',
    aChannel: '一个频道',
    everyone: '所有人',
    name: 'ID 或名称',
    event: '事件名',
    data: '数据',
    send: '发送',
    remove: '移除客户端',
    removeAgain: '再按一次，结束它的所有事件流',
    drain: '排空',
    drainAgain: '再按一次：{n} 个事件流将重连',
    wasSent: '已发送，条目 {id}',
    wasRemoved: '已移除，条目 {id}',
    isDraining: '{n} 个事件流将在 10 秒内重连',
    failedAction: '操作失败：{why}',
    missing: '{names} 没有应答：未显示它们的事件流。',
    silent: '{names} 没有检查器或版本较旧：未显示它们的事件流。',
    alone: '无法访问日志：只显示本进程。',
    sum: '{clients} 个客户端，{streams} 个事件流',
    of: '已加载 {shown} / {total}',
    window: '窗口',
    logUp: '日志正常',
    logDown: '日志中断',
    draining: '正在排空',
    thisProcess: '{name}（本进程）',
    comma: '，',
    gone: '该事件流已关闭。',
  },
}

export let language = 'en'

/** The first of the browser's languages that there is. */
export function preferred() {
  const stored = read()
  const wanted = [...(stored ? [stored] : []), ...navigator.languages]
  return wanted.map(tag => tag.slice(0, 2)).find(tag => tag in WORDS) ?? 'en'
}

/** @param {string} tag */
export function setLanguage(tag) {
  language = tag
  document.documentElement.lang = tag === 'zh' ? 'zh-CN' : tag
  for (const element of document.querySelectorAll('[data-text]')) {
    element.textContent = t(/** @type {HTMLElement} */ (element).dataset.text ?? '')
  }
}

/** @param {string} tag */
export function remember(tag) {
  try {
    localStorage.setItem('koa-sse-pool.language', tag)
  } catch {
    // Storage is off: the choice lasts as long as the page.
  }
}

function read() {
  try {
    return localStorage.getItem('koa-sse-pool.language')
  } catch {
    return null
  }
}

/**
 * @param {string} key
 * @param {Record<string, unknown>} [values]
 */
export function t(key, values = {}) {
  const text = WORDS[language]?.[key] ?? WORDS.en?.[key] ?? key
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]))
}

/** @param {number} value */
export function number(value) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(
    value,
  )
}

/** @param {number} value */
export function bytes(value) {
  if (value < 1024) return `${number(value)} B`
  if (value < 1024 * 1024) return `${number(value / 1024)} KiB`
  return `${number(value / 1024 / 1024)} MiB`
}
