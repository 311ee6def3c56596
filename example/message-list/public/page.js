const $ = selector => document.querySelector(selector)

const session = await (await fetch('session')).json()
$('#user').textContent = session.user
$('#page-origin').textContent = location.origin
$('#events-origin').textContent = session.events
$('#log-seconds').textContent = session.logSeconds

let source // the EventSource; none while closed
let lastId = '' // the newest event id
let behind = false // from a loss until the replay is complete
const shown = new Set() // the numbers of the messages that have arrived

function connect() {
  source?.close()
  const url = new URL('events', session.events)
  // A new EventSource sends no Last-Event-ID header. One that reconnects by itself does.
  if (lastId) url.searchParams.set('lastEventId', lastId)
  // Without credentials the browser would not send the session's cookie to the other origin.
  const stream = new EventSource(url, { withCredentials: true })
  source = stream
  behind = lastId !== ''
  setState('connecting')

  stream.onopen = () => {
    if (stream !== source) return stream.close()
    setState('open')
  }
  stream.onerror = () => {
    if (stream !== source) return stream.close()
    // After 204, 4xx or 5xx it is closed for good: ended, refused, or the server has restarted.
    if (stream.readyState === EventSource.CLOSED) {
      note('refused', 'Refused: reload the page to get a new session')
      disconnect()
      return
    }
    if ($('#state').dataset.state === 'open') note('lost', 'Connection lost')
    behind = true
    setState('connecting')
  }

  on('message', event => showMessage(JSON.parse(event.data), behind ? 'replayed' : 'live', event))
  on('update', event => {
    $('#total').textContent = JSON.parse(event.data).messages
    showEvent(event, `${JSON.parse(event.data).messages} messages so far`)
  })
  // Sent by the handler on the server; arrives after the replay.
  on('hi', event => {
    showEvent(event, `Hello, ${JSON.parse(event.data).user}`)
    behind = false
  })
  // The page was away for longer than the log goes back, so it fetches the state instead.
  on('sse.gap', event => {
    const { reason } = JSON.parse(event.data)
    fillGap(
      showEvent(
        event,
        `Some events are gone from the log (${reason}); fetched the messages instead`,
      ),
    )
  })
  // The heartbeat keeps the id recent while there are no other events.
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
  })
  // The server has ended the stream for good. The id of this event is no position to resume from.
  on('end', event => {
    showEvent(event, event.data)
    lastId = ''
    disconnect()
  })

  function on(name, listener) {
    stream.addEventListener(name, event => {
      // In WebKit a stream closed in pagehide comes back to life when the page is restored.
      if (stream !== source) return stream.close()
      lastId = event.lastEventId
      listener(event)
      $('#last-id').textContent = lastId || 'none'
    })
  }
}

function disconnect() {
  source?.close()
  source = undefined
  setState('closed')
}

addEventListener('pagehide', () => source?.close())
addEventListener('pageshow', event => {
  if (event.persisted && source) connect()
})

$('#connect').onclick = connect
$('#disconnect').onclick = () => {
  note('left', 'Disconnected')
  disconnect()
}
// Clears only the list; the connection and the last event id stay.
$('#clear').onclick = () => $('#log').replaceChildren()
$('#end').onclick = () => fetch('end', { method: 'POST' })
setState('closed')

function setState(state) {
  const words = { closed: 'Not connected', connecting: 'Connecting', open: 'Connected' }
  $('#state').dataset.state = state
  $('#state').textContent = words[state]
  $('#connect').disabled = state !== 'closed'
  $('#disconnect').disabled = state === 'closed'
  $('#end').disabled = state !== 'open'
  // Its green dot means a live connection. The next heartbeat shows it again.
  if (state !== 'open') $('#heartbeat').hidden = true
}

// ---- The list, newest first

/** Inserts the messages that never arrived just above the gap's entry, oldest first. */
async function fillGap(mark) {
  const response = await fetch('messages')
  for (const message of await response.json()) {
    if (!shown.has(message.n)) mark = showMessage(message, 'fetched', undefined, mark)
  }
}

/** @param how live, replayed or fetched */
function showMessage({ n, text }, how, event, below = $('#log').firstChild) {
  shown.add(n)
  const item = element('li')
  Object.assign(item.dataset, { event: 'message', n, how, id: event?.lastEventId ?? '' })
  item.append(
    element('code', { textContent: `#${n}` }),
    element('span', { textContent: text }),
    element('em', { textContent: how === 'live' ? '' : how }),
  )
  return insert(item, below)
}

function showEvent(event, text) {
  const item = element('li')
  Object.assign(item.dataset, { event: event.type })
  item.append(
    element('strong', { textContent: event.type }),
    element('span', { className: 'text', textContent: text }),
    element('time', { textContent: clock() }),
  )
  return insert(item)
}

function note(name, text) {
  const item = element('li', { className: 'note' })
  item.dataset.note = name
  item.append(element('span', { textContent: text }), element('time', { textContent: clock() }))
  return insert(item)
}

function insert(item, below = $('#log').firstChild) {
  $('#log').insertBefore(item, below?.isConnected ? below : $('#log').firstChild)
  if ($('#log').children.length > 200) $('#log').lastChild.remove()
  return item
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties)
}

function clock() {
  return new Date().toLocaleTimeString('en-GB')
}
