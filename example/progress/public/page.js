import { say, speak } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

/** After this time, a new stream that has neither opened nor failed is held back by the browser. */
const HELD_MS = 3000

speak(words)

// The client is the user: every page with the same ?id= receives the same events.
const id = new URLSearchParams(location.search).get('id') || token()
const query = `?${new URLSearchParams({ id })}`
// A reloaded page is the same client, and finds its jobs again.
history.replaceState(null, '', query)
$('#client').textContent = id
$('#twin').href = query

const known = new Set() // runs that this page reads, or has read
let isLost = false // from the loss of the connection until it is back

// Tells of new jobs. All tabs share this stream; each reads the jobs by itself.
const events = new PoolEventSource(`event/push${query}`, { json: true, share: true })
setState('connecting')
noteWait(settled(events))

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
  const body = new URLSearchParams(data)
  const response = fetch(url, { method: 'POST', body }).catch(() => undefined)
  noteWait(response)
  return response
}

// ---- The state of the connection

function setState(status) {
  const isFinal = events.readyState === PoolEventSource.CLOSED
  const isOpen = events.readyState === PoolEventSource.OPEN
  const pill = $('#state')
  pill.dataset.state = isFinal ? 'closed' : isOpen ? 'open' : 'connecting'
  const isAgain = status === 'connecting' && isLost
  say(pill, isAgain ? 'reconnecting' : status === 'offline' ? 'offline' : pill.dataset.state)
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

// ---- Streams that the browser holds back

let waiting = 0

/**
 * Over HTTP/1.1 a browser opens six connections to a host, for all tabs, and tells nobody of what waits for one:
 * the page can only see that nothing happens, not even a failure.
 */
function noteWait(done) {
  const [{ nextHopProtocol } = {}] = performance.getEntriesByType('navigation')
  if (/^h[23]/.test(nextHopProtocol)) return
  let isHeld = false
  const show = change => {
    waiting += change
    $('#held').hidden = waiting === 0
  }
  const timer = setTimeout(() => {
    isHeld = true
    show(1)
  }, HELD_MS)
  done.then(() => {
    clearTimeout(timer)
    if (isHeld) show(-1)
  })
}

/** Resolves when a new stream has opened or failed. */
function settled(source) {
  return new Promise(resolve => source.addEventListener('status', resolve, { once: true }))
}

// ---- The jobs: each has a bar of twenty cells, one per step

/** Those that were started before this page was opened, or while it was away. */
async function findJobs() {
  const response = await fetch(`event/jobs${query}`).catch(() => undefined)
  if (!response?.ok) return
  for (const run of await response.json()) readJob(run)
}

/**
 * A run from its first step, whether it is at work or has ended. A job is one run, and another one that goes on for
 * each time that the server was killed.
 */
function readJob(run) {
  if (known.has(run)) return
  known.add(run)
  const [job] = run.split('.')
  const item = document.querySelector(`.job[data-job="${CSS.escape(job)}"]`) ?? addJob(job)
  delete item.dataset.state
  item.dataset.run = run
  allowStart()
  const steps = new PoolEventSource(`event/jobs/${run}${query}`, { json: true })
  noteWait(settled(steps))
  let isReplay = true // until every step that there was has arrived
  steps.addEventListener('status', () => {
    if (steps.readyState === PoolEventSource.OPEN) return
    isReplay = true
    // Without a close event the run is not known any more.
    if (steps.readyState === PoolEventSource.CLOSED && !item.dataset.state) endRun('gone')
  })
  steps.addEventListener('sse.cursor', () => {
    isReplay = false
    showHeartbeat()
  })
  steps.addEventListener('update', event => {
    log(event, isReplay)
    showStep(item, event.data.count, isReplay)
  })
  steps.addEventListener('close', event => {
    log(event)
    endRun(event.data.state)
  })

  function endRun(state) {
    // The stream that tells of the next run may have been back sooner.
    if (item.dataset.run === run) endJob(item, state)
  }
}

function showStep(item, count, isReplay) {
  const bar = item.querySelector('progress')
  bar.value = Math.max(bar.value, count)
  say(item.querySelector('.count'), 'percent', { count: bar.value })
  item.querySelectorAll('.cell')[count / 5 - 1].dataset.step = isReplay ? 'replayed' : 'live'
}

function endJob(item, state) {
  item.dataset.state = state
  const count = item.querySelector('progress').value
  // Lost with its process: it goes on in another run.
  if (state === 'lost') say(item.querySelector('.count'), 'interrupted', { count })
  else if (state !== 'done') say(item.querySelector('.count'), 'stopped')
  allowStart()
}

function addJob(job) {
  const label = say(element('label'), 'job', { n: $('#jobs').children.length + 1 })
  const bar = element('progress', { id: `job-${job}`, max: 100, value: 0 })
  label.htmlFor = bar.id
  const cells = element('div', { className: 'cells', ariaHidden: 'true' })
  for (let i = 0; i < 20; i++) cells.append(element('i', { className: 'cell' }))
  const item = element('li', { className: 'job' })
  item.dataset.job = job
  const count = say(element('span', { className: 'count' }), 'percent', { count: 0 })
  item.append(label, element('code', { textContent: job }), count, bar, cells)
  $('#jobs').prepend(item)
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
    isReplayed ? say(element('em'), 'replayed') : element('em'),
    element('code', { className: 'id', textContent: id }),
    element('time', { textContent: clock() }),
    element('code', { className: 'data', textContent: JSON.stringify(event.data) }),
  )
  addToLog(item)
}

function note(key) {
  const item = element('li', { className: 'note' })
  item.dataset.note = key
  item.append(say(element('span'), key), element('time', { textContent: clock() }))
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
