import { language, onLanguage, say, speak, t } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

speak(words)

const page = token()
let process = new URLSearchParams(location.search).get('process') === 'b' ? 'b' : 'a'
let conversation = location.hash.slice(1) || token()
let question = token() // the id of the next one
let changes // the stream that tells of conversations
let run // the answer that this page reads, or has read last
let loads = 0

// ---- Asking and stopping

async function ask() {
  // The button pressed twice, or again after a failure, sends the same id: there will be one answer.
  const id = question
  const url = `${process}/conversations/${conversation}/messages`
  const response = await send(url, 'POST', { id, text: $('#question').value })
  if (!response?.ok) return note('refused')
  if (question === id) question = token()
  await load()
}

function send(url, method, data) {
  const body = data && new URLSearchParams(data)
  return fetch(url, { method, body }).catch(() => undefined)
}

// ---- The conversations

/** Opens the stream of this tab's process. All tabs of one process share it. */
function watch() {
  // Conversations of which an event came after the list was asked for: what the list says of them is older.
  let told = new Set()
  changes?.close()
  changes = new PoolEventSource(`${process}/changes`, { json: true, share: true })
  changes.addEventListener('open', async () => {
    told = new Set()
    const response = await send(`${process}/conversations`, 'GET')
    const summaries = response?.ok ? await response.json() : []
    for (const summary of summaries) if (!told.has(summary.id)) list(summary)
    load()
  })
  changes.addEventListener('conversation', ({ data }) => {
    told.add(data.id)
    list(data)
    if (data.id === conversation) load()
  })
}

function list({ id, title, running }) {
  let button = $(`#list [data-id="${CSS.escape(id)}"]`)
  if (!button) {
    button = element('button', { type: 'button', onclick: () => open(id) })
    button.dataset.id = id
    const item = element('li')
    item.append(button)
    $('#list').prepend(item)
  }
  const badge = running ? say(element('em'), 'writing') : element('em')
  button.replaceChildren(element('span', { textContent: title }), badge)
  mark()
}

function open(id) {
  run?.source.close()
  run = undefined
  conversation = id
  question = token()
  $('#messages').replaceChildren()
  mark()
  show()
  load()
}

/** Marks where this tab is: in the list, and in the URL, for a reload. */
function mark() {
  history.replaceState(null, '', `?process=${process}#${conversation}`)
  $('#twin').href = location.href
  for (const button of document.querySelectorAll('#list button')) {
    const isCurrent = button.dataset.id === conversation
    if (isCurrent) button.setAttribute('aria-current', 'true')
    else button.removeAttribute('aria-current')
  }
}

/** Fetches the conversation. It has the answers that have ended, and the id of the one that is being written. */
async function load() {
  const mine = ++loads
  const response = await send(`${process}/conversations/${conversation}`, 'GET')
  if (!response?.ok) return
  const { messages, running } = await response.json()
  // A newer request is on its way.
  if (mine !== loads) return
  showTitle(messages[0]?.text)
  const items = messages.map(message => itemOf(message) ?? newItem(message))
  if (running) items.push(itemOf({ id: running, role: 'assistant' }) ?? read(running))
  $('#messages').replaceChildren(...items)
  toEnd()
  show()
}

function showTitle(question) {
  if (question === undefined) return say($('#chat-title'), 'newConversation')
  delete $('#chat-title').dataset.t
  $('#chat-title').textContent = question
}

/** What the page shows already stays, with its colours. */
function itemOf({ id, role }) {
  return $(`#messages [data-role="${role}"][data-id="${CSS.escape(id)}"]`)
}

function newItem({ id, role, text, state }) {
  const item = element('li', { textContent: text })
  item.dataset.role = role
  item.dataset.id = id
  if (state) setEnd(item, state)
  return item
}

function setEnd(item, state) {
  const keys = { stopped: 'wasStopped', failed: 'hasFailed', lost: 'wasLost' }
  item.dataset.state = state
  if (state in keys) item.append(say(element('small'), keys[state]))
}

// ---- The answer that is being written

/** Reads an answer from its beginning. */
function read(id) {
  run?.source.close()
  const item = newItem({ id, role: 'assistant', text: '', state: 'open' })
  run = { id, item, count: 0 }
  connect()
  return item
}

/** To this tab's process; it continues where this page is in the answer. */
function connect() {
  const mine = run
  mine.source?.close()
  const lastEventId = mine.source?.lastEventId ?? ''
  const source = new PoolEventSource(`${process}/answers/${mine.id}?page=${page}`, { lastEventId })
  mine.source = source
  mine.isReplay = true // until everything that was written before has arrived
  source.addEventListener('token', ({ data }) => write(mine, data))
  source.addEventListener('sse.cursor', () => {
    if (mine.isCut) note('resumed', { count: mine.count })
    mine.isReplay = false
    mine.isCut = false
  })
  source.addEventListener('close', ({ data }) => finish(mine, JSON.parse(data).state))
  source.addEventListener('status', () => {
    if (source.readyState === PoolEventSource.CONNECTING && !mine.isCut) {
      note('cut')
      mine.isCut = true
      mine.isReplay = true
    }
    show()
    if (source.readyState !== PoolEventSource.CLOSED || mine.item.dataset.state !== 'open') return
    // The run has expired: what there is of it is in the conversation.
    mine.item.remove()
    load()
  })
}

function write(mine, text) {
  const how = mine.isReplay ? 'replayed' : 'live'
  let span = mine.item.lastChild
  if (span?.dataset.how !== how) {
    span = element('span')
    span.dataset.how = how
    mine.item.append(span)
  }
  span.append(text)
  mine.count += 1
  show()
  toEnd()
}

function finish(mine, state) {
  setEnd(mine.item, state)
  if (state === 'done') note(state, {}, 'finished')
  else note(state, { state: () => t(state) }, 'hasEnded')
  show()
}

function toEnd() {
  $('#messages').scrollTop = $('#messages').scrollHeight
}

// ---- What the page shows of all that

function show() {
  const state = run?.item.dataset.state
  const isOn = state === 'open'
  const isOpen = isOn && run.source.readyState === PoolEventSource.OPEN
  const ends = ['done', 'stopped', 'failed', 'lost']
  $('#state').dataset.state = isOpen || state === 'done' ? 'open' : isOn ? 'connecting' : 'closed'
  const end = ends.includes(state) ? state : 'idle'
  say($('#state'), isOpen ? 'open' : isOn ? 'connecting' : end)
  $('#messages').ariaBusy = String(isOn)
  $('#received').textContent = run?.count ?? 0
  $('#ask').disabled = isOn
  $('#stop').disabled = !isOn
  $('#cut').disabled = !isOpen
}

function note(name, values = {}, key = name) {
  const item = element('li', { className: 'note' })
  item.dataset.note = name
  const time = element('time', { textContent: new Date().toLocaleTimeString('en-GB') })
  item.append(say(element('span'), key, values), time)
  $('#log').prepend(item)
}

function showQuestions() {
  const options = questions[language].map(text => element('option', { textContent: text }))
  $('#question').replaceChildren(...options)
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties)
}

// crypto.randomUUID() is missing over plain HTTP, for example on a phone in your network.
function token() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), n => n.toString(36)).join('')
}

// ---- Start

$('#form').onsubmit = event => {
  event.preventDefault()
  ask()
}
$('#stop').onclick = () => send(`${process}/answers/${run.id}`, 'DELETE')
$('#cut').onclick = () => send(`${process}/cut/${page}`, 'POST')
$('#new').onclick = () => open(token())
for (const radio of document.querySelectorAll('[name="process"]')) {
  radio.checked = radio.value === process
  radio.onchange = () => {
    process = radio.value
    note('switched', { name: process.toUpperCase() })
    mark()
    watch()
    if (run?.item.dataset.state === 'open') connect()
  }
}
const questions = await (await fetch('questions')).json()
onLanguage(showQuestions)
showQuestions()
mark()
show()
watch()
