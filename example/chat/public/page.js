import { locale, onLanguage, say, speak } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

const ROOMS = ['general', 'help', 'random']
const NAMES = ['Ada', 'Grace', 'Linus', 'Margaret', 'Barbara', 'Edsger', 'Radia', 'Ken']
const TYPING_MS = 3000

speak(words)

// The URL says who this is, so that a reload and a second tab are the same member.
const given = new URLSearchParams(location.search)
const tab = token()
const me = given.get('me') ?? token()
let name = given.get('name') ?? NAMES[Math.floor(Math.random() * NAMES.length)]
let room = ROOMS.includes(given.get('room')) ? given.get('room') : ROOMS[0]

let source
let members = new Map() // of the room that this tab shows
const messages = new Map(ROOMS.map(each => [each, new Map()])) // by id, in the order of the log
const typing = new Map() // who types in this room: names and timers
let typedAt = 0
let draft // the id of the text that is not sent yet
// The id of the newest message that was read in each room, for a page that is reloaded. Not its time: the clocks of
// two processes differ.
const read = JSON.parse(sessionStorage.getItem('read') ?? '{}')
let isCaughtUp = false // the page has all messages that were sent before it opened

// ---- The stream

/** Opens the stream. The server makes this client a member of the room for as long as it is open. */
function connect() {
  source?.close()
  members = new Map()
  source = new PoolEventSource(`events?${new URLSearchParams({ me, name, room, tab })}`, {
    json: true,
    // The page has the history already when it changes the room or the name.
    lastEventId: source?.lastEventId ?? '',
  })
  source.addEventListener('status', () => showState())
  // The whole room: when the page has opened, and after a gap. A large room comes in several parts.
  source.addEventListener('presence.snapshot', ({ data }) => {
    if (data.channel !== room) return
    if (data.isFirst) members.clear()
    for (const { id, state } of data.members) members.set(id, state)
    showMembers()
    // It follows all that was replayed.
    if (!isCaughtUp) caughtUp()
  })
  for (const change of ['presence.join', 'presence.update']) {
    source.addEventListener(change, ({ data }) => {
      if (data.channel !== room) return
      members.set(data.id, data.state)
      showMembers()
    })
  }
  source.addEventListener('presence.leave', ({ data }) => {
    if (data.channel !== room) return
    members.delete(data.id)
    stopTyping(data.id)
    showMembers()
  })
  source.addEventListener('message', ({ data }) => receive(data))
  source.addEventListener('typing', ({ data }) => {
    if (data.room === room) startTyping(data)
  })
  source.addEventListener('sse.gap', () => note('gap'))
  showState()
}

/** What was written before this tab first opened the page is no news; what it missed while it was reloaded is. */
function caughtUp() {
  isCaughtUp = true
  for (const each of ROOMS) {
    const all = [...messages.get(each).values()]
    const isFirstVisit = read[each] === undefined
    // With -1, also the newest message that was read has left the log.
    const last = isFirstVisit ? all.length - 1 : all.findIndex(({ id }) => id === read[each])
    for (const message of all.slice(last + 1)) message.isUnread = message.from !== me
    if (isFirstVisit || isSeen(each)) rememberRead(each)
  }
  showRooms()
  showMessages()
}

function receive(message) {
  const known = messages.get(message.room)
  // It was sent twice, as the answer to the first attempt was lost.
  if (known.has(message.id)) return
  known.set(message.id, message)
  stopTyping(message.from)
  if (isSeen(message.room)) rememberRead(message.room)
  else message.isUnread = isCaughtUp && message.from !== me
  if (message.room === room) append(message)
  showRooms()
}

// ---- Sending

async function sendMessage() {
  const text = $('#text').value
  if (text.trim() === '') return
  // A second attempt has the same id, so that a message whose answer was lost is shown once.
  draft ??= token()
  const response = await post('messages', { id: draft, text })
  if (!response?.ok) return note('failed')
  draft = undefined
  $('#text').value = ''
  typedAt = 0
}

function tellTyping() {
  draft = undefined
  if (performance.now() - typedAt < TYPING_MS / 2 && typedAt !== 0) return
  typedAt = performance.now()
  post('typing', {})
}

function post(url, data) {
  const body = new URLSearchParams({ me, name, room, ...data })
  return fetch(url, { method: 'POST', body }).catch(() => undefined)
}

// ---- Typing

function startTyping({ from, name }) {
  clearTimeout(typing.get(from)?.timer)
  typing.set(from, { name, timer: setTimeout(() => stopTyping(from), TYPING_MS) })
  showTyping()
}

function stopTyping(id) {
  clearTimeout(typing.get(id)?.timer)
  typing.delete(id)
  showTyping()
}

// ---- Rooms and what is unread

function enter(next) {
  if (next === room) return
  leave()
  room = next
  for (const { timer } of typing.values()) clearTimeout(timer)
  typing.clear()
  rememberRead(room)
  connect()
  showAll()
  $('#text').focus()
}

/** What was unread when the room was opened stays marked until it is left, or the page is hidden. */
function leave() {
  for (const message of messages.get(room).values()) message.isUnread = false
}

function isSeen(each) {
  return each === room && !document.hidden
}

function rememberRead(each) {
  // The history may still be arriving.
  if (!isCaughtUp) return
  read[each] = [...messages.get(each).keys()].at(-1) ?? ''
  sessionStorage.setItem('read', JSON.stringify(read))
}

function unreadIn(each) {
  if (isSeen(each)) return 0
  return [...messages.get(each).values()].filter(({ isUnread }) => isUnread).length
}

// ---- What the page shows

function showAll() {
  const url = `?${new URLSearchParams({ me, name, room })}`
  history.replaceState(null, '', url)
  $('#twin').href = url
  $('#name').value = name
  say($('#room-title'), 'room', { room })
  showRooms()
  showMembers()
  showTyping()
  showMessages()
}

function showState() {
  const { status, readyState } = source
  const states = ['connecting', 'open', 'closed']
  $('#state').dataset.state = states[readyState]
  say($('#state'), status)
}

function showRooms() {
  let total = 0
  for (const each of ROOMS) {
    const button = $(`#rooms [data-room="${each}"]`)
    const count = unreadIn(each)
    total += count
    const badge = count > 0 ? say(element('em'), 'unread', { count }) : element('em')
    button.replaceChildren(say(element('span'), 'room', { room: each }), badge)
    if (each === room) button.setAttribute('aria-current', 'true')
    else button.removeAttribute('aria-current')
  }
  say($('title'), total > 0 ? 'pageUnread' : 'page', { total })
}

function showMembers() {
  const sorted = [...members].sort(([a, one], [b, other]) =>
    one.name === other.name ? (a < b ? -1 : 1) : one.name < other.name ? -1 : 1,
  )
  const items = sorted.map(([id, state]) => {
    const item = element('li', { textContent: state.name })
    if (id === me) say(item, 'you', { name: state.name })
    item.dataset.member = id
    return item
  })
  $('#members').replaceChildren(...items)
  $('#count').textContent = members.size
}

function showTyping() {
  const names = Array.from(typing.values(), ({ name }) => name)
  if (names.length > 0) return say($('#typing'), 'typing', { names })
  delete $('#typing').dataset.t
  $('#typing').textContent = ''
}

function showMessages() {
  $('#messages').replaceChildren(...Array.from(messages.get(room).values(), itemOf))
  toEnd()
}

function append(message) {
  $('#messages').append(itemOf(message))
  toEnd()
}

function itemOf({ from, name, text, at, isUnread }) {
  const item = element('li')
  item.dataset.from = from === me ? 'me' : 'other'
  if (isUnread) item.dataset.unread = ''
  const time = element('time', {
    dateTime: new Date(at).toISOString(),
    textContent: new Date(at).toLocaleTimeString(locale(), { hour: '2-digit', minute: '2-digit' }),
  })
  const head = element('p', { className: 'head' })
  head.append(element('b', { textContent: name }), time)
  item.append(head, element('p', { className: 'text', textContent: text }))
  return item
}

function note(key) {
  $('#messages').append(say(element('li', { className: 'note' }), key))
  toEnd()
}

function toEnd() {
  $('#messages').scrollTop = $('#messages').scrollHeight
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties)
}

// crypto.randomUUID() is missing over plain HTTP, for example on a phone in your network.
function token() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), n => n.toString(36)).join('')
}

// ---- Start

for (const each of ROOMS) {
  const button = element('button', { type: 'button', onclick: () => enter(each) })
  button.dataset.room = each
  const item = element('li')
  item.append(button)
  $('#rooms').append(item)
}
$('#form').onsubmit = event => {
  event.preventDefault()
  sendMessage()
}
$('#text').oninput = tellTyping
$('#rename').onsubmit = event => {
  event.preventDefault()
  name = $('#name').value.trim() || name
  connect()
  showAll()
}
document.onvisibilitychange = () => {
  if (document.hidden) leave()
  else rememberRead(room)
  showRooms()
  // Hidden, nobody sees the marks go.
  if (document.hidden) showMessages()
}
// The times of the messages.
onLanguage(showMessages)
connect()
showAll()
