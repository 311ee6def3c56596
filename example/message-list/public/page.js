const $ = selector => document.querySelector(selector)

const session = await (await fetch('session')).json()
$('#user').textContent = session.user
$('#page-origin').textContent = location.origin
$('#events-origin').textContent = session.events
$('#log-seconds').textContent = session.logSeconds

let events // the PoolEventSource; none while closed
let lastId = '' // the newest event id
let behind = false // from a loss until the replay is complete
const shown = new Set() // the numbers of the messages that have arrived

function connect() {
  behind = lastId !== ''
  events = new PoolEventSource(new URL('events', session.events), {
    json: true,
    // Without credentials the browser would not send the session's cookie to the other origin.
    withCredentials: true,
    lastEventId: lastId,
    onGap: fillGap,
  })
  setState('connecting')

  events.addEventListener('status', ({ status }) => {
    if (status === 'refused') note('refused', 'Refused: reload the page to get a new session')
    // To come back after that the client starts again, because its end is part of what it would resume.
    if (status === 'ended') lastId = ''
    if (events.readyState === PoolEventSource.CLOSED) return disconnect()
    if (events.readyState === PoolEventSource.OPEN) return setState('open')
    if ($('#state').dataset.state === 'open') note('lost', 'Connection lost')
    behind = true
    setState('connecting')
  })

  on('message', event => {
    if (!shown.has(event.data.n)) showMessage(event.data, behind ? 'replayed' : 'live', event)
  })
  on('update', event => {
    $('#total').textContent = event.data.messages
    showEvent(event, `${event.data.messages} messages so far`)
  })
  // Sent by the handler on the server; arrives after the replay.
  on('hi', event => {
    showEvent(event, `Hello, ${event.data.user}`)
    behind = false
  })
  // The heartbeat keeps the id recent while there are no other events.
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
  })
  // The server has ended the stream for good.
  on('end', event => showEvent(event, event.data))
}

/** Calls the listener, then shows how far the page has read. */
function on(name, listener) {
  events.addEventListener(name, event => {
    listener(event)
    lastId = events.lastEventId
    $('#last-id').textContent = lastId || 'none'
  })
}

function disconnect() {
  events.close()
  setState('closed')
  $('#last-id').textContent = lastId || 'none'
}

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

/**
 * The page was away for longer than the log goes back: inserts the messages that never arrived just above
 * the gap's entry, oldest first. Events that arrive meanwhile are held back.
 */
async function fillGap(reason) {
  let mark = showEvent(
    { type: 'sse.gap' },
    `Some events are gone from the log (${reason}); fetched the messages instead`,
  )
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
