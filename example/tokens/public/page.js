import { createParser } from 'eventsource-parser'

const $ = selector => document.querySelector(selector)

let run // the current answer
const producers = new Map() // the newest report of each producer, by number

/**
 * EventSource can only GET, and it reconnects even when it should not. For a POST the page reads the
 * response, passes the text to a parser, and decides for itself what to do after a cut.
 */
async function read(url, { method, lastId, signal, onEvent, onRetry }) {
  const headers = { Accept: 'text/event-stream' }
  if (lastId) headers['Last-Event-ID'] = lastId
  const response = await fetch(url, { method, headers, signal })
  if (!response.ok) throw Object.assign(new Error(response.statusText), { isRefused: true })
  const parser = createParser({ onEvent, onRetry })
  // A character may be split between two chunks; the decoder joins it.
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    parser.feed(value)
  }
}

function ask() {
  const { value: mode } = $('[name="mode"]:checked')
  run = { mode, id: '', lastId: '', n: 0, retry: 2000, state: 'writing', isBehind: false }
  $('#answer').replaceChildren()
  $('#received').textContent = 0
  show()
  run.following = follow(run)
}

/** Reads to the end, reconnecting as often as needed. */
async function follow(mine) {
  const isOn = () => mine === run && mine.state === 'writing' && !mine.isHidden
  while (isOn()) {
    mine.connection = new AbortController()
    try {
      await read(mine.id ? `jobs/${mine.id}` : mine.mode, {
        method: mine.id ? 'GET' : 'POST',
        lastId: mine.lastId,
        signal: mine.connection.signal,
        onEvent: event => mine === run && take(mine, event),
        onRetry: ms => {
          mine.retry = ms
        },
      })
    } catch (error) {
      if (error.isRefused) mine.id = ''
    }
    if (!isOn()) return
    if (mine.mode === 'direct' || !mine.id) {
      finish(mine, 'lost', 'Connection cut: the rest is lost, and the producer has stopped')
      return
    }
    note('cut', 'Connection cut: the job continues')
    mine.isBehind = true
    show('connecting')
    await new Promise(resolve => setTimeout(resolve, mine.retry))
  }
}

function take(mine, { event, id, data }) {
  // Only pool events and heartbeats have an id: how far this page has read.
  if (id !== undefined) mine.lastId = id
  const handlers = {
    start() {
      const { id, producer } = JSON.parse(data)
      mine.id = id
      mine.producer = producer
      note('start', `Producer ${producer} has started`)
      show('open')
    },
    token() {
      const token = { ...JSON.parse(data), how: mine.isBehind ? 'replayed' : 'live' }
      if (mine.held) mine.held.push(token)
      else write(mine, token)
    },
    // Arrives after the replay.
    ready() {
      note('resumed', `Reconnected: up to date with token ${mine.n}`)
      mine.isBehind = false
      show('open')
    },
    // The log does not go back far enough, so fetch the text instead.
    'sse.gap'() {
      note('gap', 'Away for longer than the log goes back: fetching the text')
      fetchText(mine)
    },
    done() {
      finish(mine, 'done', 'Finished')
    },
    // The stream has ended for good. The id of this event, sse.end, is no position to resume from.
    close() {
      mine.lastId = ''
      if (mine.state === 'writing') finish(mine, 'stopped', 'The server has stopped the job')
    },
  }
  handlers[event]?.()
  $('#last-id').textContent = mine.lastId || 'none'
}

async function fetchText(mine) {
  mine.held = [] // tokens that arrive meanwhile belong after that text
  const response = await fetch(`jobs/${mine.id}/text`)
  const { n, text } = await response.json()
  if (mine !== run) return
  $('#answer').replaceChildren()
  mine.n = 0
  for (const token of [{ n, text, how: 'replayed' }, ...mine.held]) write(mine, token)
  mine.held = undefined
}

function write(mine, { n, text, how }) {
  if (n <= mine.n) return // the fetched text already contains it
  mine.n = n
  const token = document.createElement('span')
  token.textContent = text
  token.dataset.how = how
  $('#answer').append(token)
  $('#received').textContent = n
}

function stop() {
  const { mode, id } = run
  finish(run, 'stopped', 'Stopped')
  // A direct answer needs no more: the server sees the stream close, and its signal aborts.
  run.connection.abort()
  if (mode === 'jobs' && id) fetch(`jobs/${id}`, { method: 'DELETE' })
}

function finish(mine, state, text) {
  mine.state = state
  note(state, text)
  show()
}

$('#ask').onclick = ask
$('#stop').onclick = stop
$('#cut').onclick = () => fetch(`cut/${run.id}`, { method: 'POST' })
show()

addEventListener('pagehide', () => {
  if (run) run.isHidden = true
  run?.connection.abort()
})
addEventListener('pageshow', async event => {
  if (!event.persisted) return
  const mine = run
  // Wait until the aborted loop has ended, or two loops would read the same answer.
  await mine?.following
  if (mine?.state !== 'writing') return
  mine.isHidden = false
  mine.isBehind = true
  mine.following = follow(mine)
})

// ---- The state of the producers

const watching = new PoolEventSource('producers', { json: true })
watching.addEventListener('producer', ({ data }) => {
  producers.set(data.producer, data)
  showProducer()
})

function showProducer() {
  const report = producers.get(run?.producer)
  $('#producer').textContent = report?.state ?? 'none'
  $('#written').textContent = report ? `${report.n} of ${report.of}` : 0
}

function show(connection = 'connecting') {
  const isOn = run?.state === 'writing'
  const words = { connecting: 'Connecting', open: 'Writing' }
  const idle = { done: 'Done', stopped: 'Stopped', lost: 'Lost' }
  $('#state').dataset.state = isOn ? connection : run?.state === 'done' ? 'open' : 'closed'
  $('#state').textContent = isOn ? words[connection] : (idle[run?.state] ?? 'Idle')
  $('#answer').ariaBusy = String(isOn)
  $('#ask').disabled = isOn
  $('#stop').disabled = !isOn
  $('#cut').disabled = !isOn || connection !== 'open'
  showProducer()
}

function note(name, text) {
  const item = document.createElement('li')
  item.className = 'note'
  item.dataset.note = name
  const time = document.createElement('time')
  time.textContent = new Date().toLocaleTimeString('en-GB')
  item.append(Object.assign(document.createElement('span'), { textContent: text }), time)
  $('#log').prepend(item)
}
