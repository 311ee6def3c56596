const $ = selector => document.querySelector(selector)

const words = {
  en: {
    connecting: 'Connecting',
    reconnecting: 'Reconnecting',
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
$('#client').textContent = id
$('#twin').href = `?${new URLSearchParams({ id })}`

let page = token() // identifies this page to the server until it leaves
let source // the EventSource; undefined while closed
let lastId = '' // the newest event id
let cut = false // from the loss of the connection until the replay is complete
let silence // the timer that detects a connection that died silently

function open(from = '') {
  source?.close()
  const query = new URLSearchParams({ id, page })
  if (from) query.set('lastEventId', from) // a new EventSource sends no Last-Event-ID
  const stream = new EventSource(`event/push?${query}`)
  source = stream
  setState('connecting')
  listenForSilence()

  stream.onopen = () => {
    if (stream !== source) return stream.close()
    setState('open')
    if (cut) note('back')
  }
  stream.onerror = () => {
    if (stream !== source) return stream.close()
    if ($('#state').dataset.state === 'open') note('lost')
    cut = true
    setState('connecting')
    // A browser does not reconnect after an HTTP error, such as a proxy's 502 while the server restarts.
    if (stream.readyState === EventSource.CLOSED)
      setTimeout(reopen, 3000 + Math.random() * 3000, stream)
  }

  // Sent by the handler on the server; arrives after the replay.
  on('ready', event => {
    log(event)
    loadJobs()
    cut = false
    $('#start').disabled = false
  })
  on('update', event => {
    const { job, count } = JSON.parse(event.data)
    log(event)
    showJob(job, count, cut ? 'replayed' : 'live')
  })
  // The page was away for longer than the log goes back, so it fetches the state instead.
  on('sse.gap', event => {
    log(event)
    loadJobs()
  })
  // The heartbeat also keeps the browser's Last-Event-ID recent while there are no other events.
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
    restart($('#heartbeat'))
  })
  // The server has ended the stream. Without close() the browser would reconnect once more.
  on('close', event => {
    log(event)
    stop()
    note('ended')
  })

  function on(name, listener) {
    stream.addEventListener(name, event => {
      // In WebKit a stream closed in pagehide comes back to life when the page is restored.
      if (stream !== source) return stream.close()
      listenForSilence()
      listener(event)
      lastId = event.lastEventId
    })
  }
}

function reopen(stream) {
  if (stream !== source) return
  cut = true
  open(lastId)
}

function stop() {
  clearTimeout(silence)
  source?.close()
  source = undefined
  setState('closed')
}

// Heartbeats come every 15 s. After two missed heartbeats the connection counts as dead.
function listenForSilence() {
  clearTimeout(silence)
  silence = setTimeout(reopen, 40_000, source)
}

open()

// `pagehide`, not `beforeunload`, which phones do not fire and which keeps the page out of the cache.
addEventListener('pagehide', () => {
  stop()
  navigator.sendBeacon('event/remove', new URLSearchParams({ id, page }))
})
addEventListener('pageshow', event => {
  if (!event.persisted) return
  cut = false // the client had left, so nothing is replayed
  page = token() // with the old token, a late beacon would end the new stream
  open()
})

$('#start').onclick = async () => {
  const response = await post('event/progress', { id })
  if (!response?.ok) return note('failed')
  const { job } = await response.json()
  showJob(job, 0)
}

$('#cut').onclick = () => post('event/cut', { id, page })

function post(url, data) {
  return fetch(url, { method: 'POST', body: new URLSearchParams(data) }).catch(() => undefined)
}

// ---- The state of the connection

function setState(state) {
  const pill = $('#state')
  pill.dataset.state = state
  pill.textContent = t(state === 'connecting' && cut ? 'reconnecting' : state)
  $('#cut').disabled = state !== 'open'
  if (state === 'closed') $('#start').disabled = true
  // Its green dot means a live connection. The next heartbeat shows it again.
  if (state !== 'open') $('#heartbeat').hidden = true
}

// ---- The jobs: each has a bar of twenty cells, one per step

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
  const own = event.lastEventId === lastId ? '' : event.lastEventId // `ready` carries no id
  const item = element('li')
  item.dataset.event = event.type
  item.dataset.id = own
  item.toggleAttribute('data-replayed', cut && event.type === 'update')
  item.append(
    element('strong', { textContent: event.type }),
    element('em', { textContent: cut && event.type === 'update' ? t('replayed') : '' }),
    element('code', { className: 'id', textContent: own }),
    element('time', { textContent: clock() }),
    element('code', { className: 'data', textContent: event.data }),
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
