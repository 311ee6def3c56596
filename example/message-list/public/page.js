const $ = selector => document.querySelector(selector)

const session = await (await fetch('session')).json()
$('#user').textContent = session.user
$('#page-origin').textContent = location.origin
$('#events-origin').textContent = session.events

let source // the EventSource; none while closed
let lastId = '' // the newest event id
let behind = false // from a loss until all that was missed is here
const shown = new Set() // the numbers of the messages that have arrived

function connect() {
  source?.close()
  const url = new URL('events', session.events)
  // A new EventSource knows no Last-Event-ID. One that reconnects by itself sends the header.
  if (lastId) url.searchParams.set('lastEventId', lastId)
  // With credentials, or the other origin would not get the session's cookie.
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
    // After 204, 4xx and 5xx it is closed for good: ended, refused, or the server is a new one.
    if (stream.readyState === EventSource.CLOSED) {
      note('refused', 'Refused: reload the page for a new session')
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
  // The handler on the server sends it, after what was missed.
  on('hi', event => {
    showEvent(event, `Hello, ${JSON.parse(event.data).user}`)
    behind = false
  })
  // Away for longer than the log goes back: the page fetches the state instead.
  on('sse.gap', event => {
    const { reason } = JSON.parse(event.data)
    fillGap(showEvent(event, `The log goes back no further (${reason}): fetched instead`))
  })
  // The heartbeat: keeps the id fresh while nothing happens.
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
  })
  // The server wants no more of this. Its id only says so to the server, and is no place to resume.
  on('end', event => {
    showEvent(event, event.data)
    lastId = ''
    disconnect()
  })

  function on(name, listener) {
    stream.addEventListener(name, event => {
      // In WebKit a stream that was closed in pagehide lives again when the page is restored.
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
// Only the list: the connection and the last event id stay as they are.
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
}

// ---- The list, newest first

/** Puts the messages that never came just above the mark of the gap, oldest first. */
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
