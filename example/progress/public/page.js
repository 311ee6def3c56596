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
      '开始一个任务，服务端会推送它的进度。断开连接后任务照常进行；浏览器重连时，会先补上错过的每一步。',
    start: '开始任务',
    cut: '断开连接',
    jobs: '任务',
    live: '实时',
    replayed: '补发',
    noJobs: '还没有任务，可以同时开始几个。',
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
let isReplay = true // until everything that was sent before has arrived

const events = new PoolEventSource(`event/push${query}`, { json: true, onGap: loadJobs })
setState('connecting')

events.addEventListener('status', ({ status }) => {
  const isOpen = events.readyState === PoolEventSource.OPEN
  if (status === 'ended') note('ended')
  else if (isOpen === isLost) note(isLost ? 'back' : 'lost')
  isLost = !isOpen
  isReplay ||= isLost
  setState(status)
})
// Sent by the handler on the server; arrives after the replay.
events.addEventListener('ready', event => {
  log(event)
  isReplay = false
  $('#start').disabled = false
})
events.addEventListener('update', event => {
  const { job, count } = event.data
  log(event)
  showJob(job, count, isReplay ? 'replayed' : 'live')
})
events.addEventListener('sse.gap', log)
events.addEventListener('sse.cursor', () => {
  $('#heartbeat').hidden = false
  $('#heartbeat time').textContent = clock()
  restart($('#heartbeat'))
})
events.addEventListener('close', log)
// The page may come back from the browser's cache long after this heartbeat.
addEventListener('pagehide', () => {
  $('#heartbeat').hidden = true
})

$('#start').onclick = async () => {
  const response = await post('event/progress', { id })
  if (!response?.ok) return note('failed')
  const { job } = await response.json()
  showJob(job, 0)
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
  if (isFinal) $('#start').disabled = true
  // Its green dot means a live connection. The next heartbeat shows it again.
  if (!isOpen) $('#heartbeat').hidden = true
}

// ---- The jobs: each has a bar of twenty cells, one per step

/** The state, after a gap: events that arrive meanwhile are held back. */
async function loadJobs() {
  const response = await fetch(`event/jobs?${new URLSearchParams({ id })}`).catch(() => undefined)
  if (!response?.ok) return
  const counts = await response.json()
  for (const job in counts) showJob(job, counts[job])
  for (const item of document.querySelectorAll('.job')) {
    if (item.matches('[data-done]') || item.dataset.job in counts) continue
    item.dataset.stopped = ''
    item.querySelector('.count').textContent = t('stopped')
  }
}

/** Without `how`, the job is known to have got this far, but the steps did not arrive in this page. */
function showJob(job, count, how) {
  const item = document.querySelector(`.job[data-job="${CSS.escape(job)}"]`) ?? addJob(job)
  const bar = item.querySelector('progress')
  bar.value = Math.max(bar.value, count)
  item.querySelector('.count').textContent = `${bar.value}%`
  item.toggleAttribute('data-done', bar.value === bar.max)
  item.removeAttribute('data-stopped')
  const cells = item.querySelectorAll('.cell')
  for (let i = 0; i < bar.value / 5; i++) cells[i].dataset.step ??= 'known'
  if (how) cells[count / 5 - 1].dataset.step = how
}

function addJob(job) {
  const label = element('label', { textContent: `${t('job')} ${$('#jobs').children.length + 1}` })
  const bar = element('progress', { id: `job-${job}`, max: 100, value: 0 })
  label.htmlFor = bar.id
  const cells = element('div', { className: 'cells', ariaHidden: 'true' })
  for (let i = 0; i < 20; i++) cells.append(element('i', { className: 'cell' }))
  const item = element('li', { className: 'job' })
  item.dataset.job = job
  const count = element('span', { className: 'count' })
  item.append(label, element('code', { textContent: job }), count, bar, cells)
  $('#jobs').prepend(item)
  return item
}

// ---- The log: newest first

function log(event) {
  const own = event.type === 'ready' ? '' : event.lastEventId // `ready` carries no id
  const isReplayed = isReplay && event.type === 'update'
  const item = element('li')
  item.dataset.event = event.type
  item.dataset.id = own
  item.toggleAttribute('data-replayed', isReplayed)
  item.append(
    element('strong', { textContent: event.type }),
    element('em', { textContent: isReplayed ? t('replayed') : '' }),
    element('code', { className: 'id', textContent: own }),
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
