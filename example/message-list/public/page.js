import { fill, say, speak } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

speak(words)
// Until the session says how far the log goes back.
fill({ logSeconds: 10 })
showLastId('')

const session = await (await fetch('session')).json()
$('#user').textContent = session.user
$('#page-origin').textContent = location.origin
$('#events-origin').textContent = session.events
fill({ logSeconds: session.logSeconds })

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
    if (status === 'refused') note('refused')
    // To come back after that the client starts again, because its end is part of what it would resume.
    if (status === 'ended') lastId = ''
    if (events.readyState === PoolEventSource.CLOSED) return disconnect()
    if (events.readyState === PoolEventSource.OPEN) return setState('open')
    if ($('#state').dataset.state === 'open') note('lost')
    behind = true
    setState('connecting')
  })

  on('message', event => {
    if (!shown.has(event.data.n)) showMessage(event.data, behind ? 'replayed' : 'live', event)
  })
  on('update', event => {
    $('#total').textContent = event.data.messages
    showEvent(event, 'soFar', { messages: event.data.messages })
  })
  // Sent by the handler on the server; arrives after the replay.
  on('hi', event => {
    showEvent(event, 'hello', { user: event.data.user })
    behind = false
  })
  // The heartbeat keeps the id recent while there are no other events.
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
  })
  // The server has ended the stream for good.
  on('end', event => showEvent(event, 'serverEnded'))
}

/** Calls the listener, then shows how far the page has read. */
function on(name, listener) {
  events.addEventListener(name, event => {
    listener(event)
    lastId = events.lastEventId
    showLastId(lastId)
  })
}

function disconnect() {
  events.close()
  setState('closed')
  showLastId(lastId)
}

$('#connect').onclick = connect
$('#disconnect').onclick = () => {
  note('left')
  disconnect()
}
// Clears only the list; the connection and the last event id stay.
$('#clear').onclick = () => $('#log').replaceChildren()
$('#end').onclick = () => fetch('end', { method: 'POST' })
setState('closed')

function setState(state) {
  $('#state').dataset.state = state
  say($('#state'), state)
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
  let mark = showEvent({ type: 'sse.gap' }, 'gap', { reason })
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
    how === 'live' ? element('em') : say(element('em'), how),
  )
  return insert(item, below)
}

function showEvent(event, key, values) {
  const item = element('li')
  Object.assign(item.dataset, { event: event.type })
  item.append(
    element('strong', { textContent: event.type }),
    say(element('span', { className: 'text' }), key, values),
    element('time', { textContent: clock() }),
  )
  return insert(item)
}

function note(name) {
  const item = element('li', { className: 'note' })
  item.dataset.note = name
  item.append(say(element('span'), name), element('time', { textContent: clock() }))
  return insert(item)
}

function insert(item, below = $('#log').firstChild) {
  $('#log').insertBefore(item, below?.isConnected ? below : $('#log').firstChild)
  if ($('#log').children.length > 200) $('#log').lastChild.remove()
  return item
}

function showLastId(id) {
  if (id === '') return say($('#last-id'), 'none')
  delete $('#last-id').dataset.t
  $('#last-id').textContent = id
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties)
}

function clock() {
  return new Date().toLocaleTimeString('en-GB')
}
