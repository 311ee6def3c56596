const $ = selector => document.querySelector(selector)

const words = {
  en: {
    connecting: 'Connecting',
    reconnecting: 'Reconnecting',
    offline: 'Offline, trying again',
    open: 'Connected',
    closed: 'Closed',
    job: 'Job',
    stopped: 'stopped',
    replayed: 'replayed',
    lost: 'Connection lost',
    back: 'Reconnected',
    ended: 'The server ended the stream',
    failed: 'The server did not accept the job',
  },
  zh: {
    title: '断线也不丢消息',
    intro:
      '开始一个任务，服务端会推送它的进度。断开连接或刷新页面，任务照常进行，并会先补上错过的每一步。',
    start: '开始任务',
    cut: '断开连接',
    jobs: '任务',
    live: '实时',
    replayed: '重放',
    noJobs: '还没有任务，可以同时开始两个。',
    log: '收到的事件',
    noEvents: '还没有事件。',
    heartbeat: '心跳',
    client: '客户端',
    twin: '在新标签页打开同一客户端',
    connecting: '连接中',
    reconnecting: '重连中',
    offline: '离线，正在重试',
    open: '已连接',
    closed: '已关闭',
    job: '任务',
    stopped: '已停止',
    lost: '连接断开',
    back: '已重新连接',
    ended: '服务端结束了连接',
    failed: '任务未能开始',
  },
}
const zh = navigator.language.startsWith('zh')
const t = key => words[zh ? 'zh' : 'en'][key]
if (zh) {
  document.documentElement.lang = 'zh-CN'
  for (const node of document.querySelectorAll('[data-t]')) node.textContent = t(node.dataset.t)
}

// The client is the user: every page with the same ?id= receives the same events.
const id = new URLSearchParams(location.search).get('id') || token()
const query = `?${new URLSearchParams({ id })}`
// A reloaded page is the same client, and finds its jobs again.
history.replaceState(null, '', query)
$('#client').textContent = id
$('#twin').href = query

let isLost = false // from the loss of the connection until it is back

// Tells of new jobs. All tabs share this stream; each reads the jobs by itself.
const events = new PoolEventSource(`event/push${query}`, { json: true, share: true })
setState('connecting')

events.addEventListener('status', ({ status }) => {
  const isOpen = events.readyState === PoolEventSource.OPEN
  if (status === 'ended') note('ended')
  else if (isOpen === isLost) note(isLost ? 'back' : 'lost')
  isLost = !isOpen
  setState(status)
})
events.addEventListener('open', findJobs)
events.addEventListener('job', ({ data }) => readJob(data.job))
events.addEventListener('sse.cursor', showHeartbeat)
// The page may come back from the browser's cache long after this heartbeat.
addEventListener('pagehide', () => {
  $('#heartbeat').hidden = true
})

$('#start').onclick = async () => {
  const response = await post('event/progress', { id })
  if (!response?.ok) note('failed')
}

$('#cut').onclick = () => post('event/cut', { id })

function post(url, data) {
  return fetch(url, { method: 'POST', body: new URLSearchParams(data) }).catch(() => undefined)
}

// ---- The state of the connection

function setState(status) {
  const isFinal = events.readyState === PoolEventSource.CLOSED
  const isOpen = events.readyState === PoolEventSource.OPEN
  const pill = $('#state')
  pill.dataset.state = isFinal ? 'closed' : isOpen ? 'open' : 'connecting'
  const isAgain = status === 'connecting' && isLost
  pill.textContent = t(
    isAgain ? 'reconnecting' : status === 'offline' ? status : pill.dataset.state,
  )
  $('#cut').disabled = !isOpen
  allowStart()
  // Its green dot means a live connection. The next heartbeat shows it again.
  if (!isOpen) $('#heartbeat').hidden = true
}

/** Not while two are at work: over HTTP/1.1 a browser opens six connections to a host, for all tabs. */
function allowStart() {
  const atWork = document.querySelectorAll('.job:not([data-state])').length
  $('#start').disabled = events.readyState !== PoolEventSource.OPEN || atWork >= 2
}

function showHeartbeat() {
  $('#heartbeat').hidden = false
  $('#heartbeat time').textContent = clock()
  restart($('#heartbeat'))
}

// ---- The jobs: each has a bar of twenty cells, one per step

/** Those that were started before this page was opened, or while it was away. */
async function findJobs() {
  const response = await fetch(`event/jobs${query}`).catch(() => undefined)
  if (!response?.ok) return
  for (const job of await response.json()) readJob(job)
}

/** From its first step, whether it is at work or has ended. */
function readJob(job) {
  if (document.querySelector(`.job[data-job="${CSS.escape(job)}"]`)) return
  const item = addJob(job)
  const run = new PoolEventSource(`event/jobs/${job}${query}`, { json: true })
  let isReplay = true // until every step that there was has arrived
  run.addEventListener('status', () => {
    if (run.readyState === PoolEventSource.OPEN) return
    isReplay = true
    // Without a close event the job is not known any more.
    if (run.readyState === PoolEventSource.CLOSED && !item.dataset.state) endJob(item, 'lost')
  })
  run.addEventListener('sse.cursor', () => {
    isReplay = false
    showHeartbeat()
  })
  run.addEventListener('update', event => {
    log(event, isReplay)
    showStep(item, event.data.count, isReplay)
  })
  run.addEventListener('close', event => {
    log(event)
    endJob(item, event.data.state)
  })
}

function showStep(item, count, isReplay) {
  const bar = item.querySelector('progress')
  bar.value = count
  item.querySelector('.count').textContent = `${count}%`
  item.querySelectorAll('.cell')[count / 5 - 1].dataset.step = isReplay ? 'replayed' : 'live'
}

function endJob(item, state) {
  item.dataset.state = state
  if (state !== 'done') item.querySelector('.count').textContent = t('stopped')
  allowStart()
}

function addJob(job) {
  const label = element('label', { textContent: `${t('job')} ${$('#jobs').children.length + 1}` })
  const bar = element('progress', { id: `job-${job}`, max: 100, value: 0 })
  label.htmlFor = bar.id
  const cells = element('div', { className: 'cells', ariaHidden: 'true' })
  for (let i = 0; i < 20; i++) cells.append(element('i', { className: 'cell' }))
  const item = element('li', { className: 'job' })
  item.dataset.job = job
  const count = element('span', { className: 'count', textContent: '0%' })
  item.append(label, element('code', { textContent: job }), count, bar, cells)
  $('#jobs').prepend(item)
  allowStart()
  return item
}

// ---- The log: newest first

function log(event, isReplayed = false) {
  const id = event.type === 'close' ? '' : event.lastEventId // that of the end is no position in the run
  const item = element('li')
  item.dataset.event = event.type
  item.dataset.id = id
  item.toggleAttribute('data-replayed', isReplayed)
  item.append(
    element('strong', { textContent: event.type }),
    element('em', { textContent: isReplayed ? t('replayed') : '' }),
    element('code', { className: 'id', textContent: id }),
    element('time', { textContent: clock() }),
    element('code', { className: 'data', textContent: JSON.stringify(event.data) }),
  )
  addToLog(item)
}

function note(key) {
  const item = element('li', { className: 'note' })
  item.dataset.note = key
  item.append(element('span', { textContent: t(key) }), element('time', { textContent: clock() }))
  addToLog(item)
}

function addToLog(item) {
  $('#log').prepend(item)
  if ($('#log').children.length > 200) $('#log').lastChild.remove()
}

// ---- Helpers

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties)
}

// crypto.randomUUID() is missing over plain HTTP, for example on a phone in your network.
function token() {
  return Array.from(crypto.getRandomValues(new Uint32Array(2)), n => n.toString(36)).join('')
}

function clock() {
  return new Date().toLocaleTimeString('en-GB')
}

function restart(node) {
  node.classList.remove('beat')
  void node.offsetWidth
  node.classList.add('beat')
}
