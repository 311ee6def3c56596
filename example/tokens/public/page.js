import { createParser } from 'eventsource-parser'

const $ = selector => document.querySelector(selector)

let run // the present answer
const producers = new Map() // what the server tells of its producers, by number

/**
 * EventSource can only GET, and reconnects by itself also when it should not. For a POST the page
 * reads the response, hands the text to a parser, and decides itself what a cut means.
 */
async function read(url, { method, lastId, signal, onEvent, onRetry }) {
  const headers = { Accept: 'text/event-stream' }
  if (lastId) headers['Last-Event-ID'] = lastId
  const response = await fetch(url, { method, headers, signal })
  if (!response.ok) throw Object.assign(new Error(response.statusText), { isRefused: true })
  const parser = createParser({ onEvent, onRetry })
  // A character may be split between two chunks: the decoder puts it together again.
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

/** Reads to the end, over as many connections as that takes. */
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
      finish(mine, 'lost', 'Cut: the rest is lost, and the producer has stopped')
      return
    }
    note('cut', 'Cut: the job goes on')
    mine.isBehind = true
    show('connecting')
    await new Promise(resolve => setTimeout(resolve, mine.retry))
  }
}

function take(mine, { event, id, data }) {
  // Only pool events and heartbeats have one; it says how far this page has read.
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
    // After what was missed.
    ready() {
      note('resumed', `Back: up to token ${mine.n} from the log`)
      mine.isBehind = false
      show('open')
    },
    // The log goes back no further: the text so far comes by another way.
    'sse.gap'() {
      note('gap', 'Away for longer than the log: fetching the text')
      fetchText(mine)
    },
    done() {
      finish(mine, 'done', 'Finished')
    },
  }
  handlers[event]?.()
  $('#last-id').textContent = mine.lastId || 'none'
}

async function fetchText(mine) {
  mine.held = [] // what arrives meanwhile belongs after that text
  const response = await fetch(`jobs/${mine.id}/text`)
  const { n, text } = await response.json()
  if (mine !== run) return
  $('#answer').replaceChildren()
  mine.n = 0
  for (const token of [{ n, text, how: 'replayed' }, ...mine.held]) write(mine, token)
  mine.held = undefined
}

function write(mine, { n, text, how }) {
  if (n <= mine.n) return // is in the text that was fetched
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
  // For a direct answer this is all: the server sees the stream close, and its signal aborts.
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
  watching.close()
})
addEventListener('pageshow', async event => {
  if (!event.persisted) return
  watch()
  const mine = run
  // Not before the aborted one has ended, or two would read on.
  await mine?.following
  if (mine?.state !== 'writing') return
  mine.isHidden = false
  mine.isBehind = true
  mine.following = follow(mine)
})

// ---- What the producers do, by an ordinary EventSource

let watching
watch()

function watch() {
  const stream = new EventSource('producers')
  watching = stream
  stream.addEventListener('producer', event => {
    // In WebKit a stream that was closed in pagehide lives again when the page is restored.
    if (stream !== watching) return stream.close()
    const report = JSON.parse(event.data)
    producers.set(report.producer, report)
    showProducer()
  })
}

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
