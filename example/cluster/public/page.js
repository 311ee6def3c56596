import { locale, say, speak } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

const COLUMNS = 300 // numbers kept in the lanes; the page shows as many as fit

speak(words)

const id = new URLSearchParams(location.search).get('id') || Math.random().toString(36).slice(2, 7)
$('#client').textContent = id
say($('#state'), 'connecting')

let here // the name of the process this page is connected to
let isBehind = false // from the loss of the connection until the replay is complete
let caughtUp = 0 // replayed numbers since the loss
let newest // the highest number so far
const counts = { received: 0, missing: 0, doubled: 0 }

const events = new PoolEventSource(`events?${new URLSearchParams({ id })}`, { json: true })

events.addEventListener('status', () => {
  if (events.readyState !== PoolEventSource.CONNECTING) return
  if (here) {
    note('lost', { name: here })
    // The list of processes cannot arrive before the page is connected again.
    showDown(here)
  }
  moveTo(undefined)
  isBehind = events.lastEventId !== ''
})
events.addEventListener('number', ({ data }) => show(data))
events.addEventListener('processes', ({ data }) => data.forEach(showProcess))
// Sent by the server's handler; arrives after the replay.
events.addEventListener('welcome', ({ data: { name, pid, store } }) => {
  $('#store').textContent = store
  moveTo(name)
  note(isBehind ? 'back' : 'open', { name, pid: String(pid), count: caughtUp })
  isBehind = false
  caughtUp = 0
  ask()
})
// The log has lost part of what was missed, or it is a new log that counts from 1 again.
events.addEventListener('gap', ({ reason }) => {
  note('gap', { reason })
  if (reason !== 'trimmed' && reason !== 'lagged') newest = undefined
})

// ---- Checks and shows the numbers

function show({ n, by }) {
  counts.received += 1
  if (n <= newest) counts.doubled += 1
  else if (newest !== undefined) counts.missing += n - newest - 1
  newest = Math.max(n, newest ?? n)
  if (isBehind) caughtUp += 1
  for (const name of Object.keys(counts)) {
    const node = $(`#${name}`)
    node.textContent = counts[name].toLocaleString(locale())
    node.classList.toggle('wrong', name !== 'received' && counts[name] > 0)
  }

  const cell = element('i')
  cell.dataset.how = isBehind ? 'replayed' : 'live'
  const column = element('div', 'number')
  column.dataset.n = n
  column.style.setProperty('--by', lane(by))
  if (here) column.style.setProperty('--via', lane(here))
  column.append(cell)
  $('#lanes').prepend(column)
  if ($('#lanes').children.length > COLUMNS) $('#lanes').lastChild.remove()
}

/** Replayed numbers arrive before the welcome that names the process, so their columns get it here. */
function moveTo(name) {
  here = name
  $('#state').dataset.state = name ? 'open' : 'connecting'
  if (name) say($('#state'), 'onProcess', { name })
  else say($('#state'), 'reconnecting')
  for (const item of $('#processes').children) {
    item.toggleAttribute('data-here', item.dataset.name === name)
  }
  if (!name) return
  for (const column of $('#lanes').children) {
    if (column.style.getPropertyValue('--via')) break
    column.style.setProperty('--via', lane(name))
  }
}

function showDown(name) {
  const item = $(`.process[data-name="${name}"]`)
  // A draining process is not down: it ends its streams one by one.
  if (item?.dataset.state !== 'ready') return
  showProcess({ name, state: 'down', streams: 0, clients: [], replays: 0, gaps: 0 })
}

const lane = name => 'ABC'.indexOf(name) + 1

// ---- The processes

function showProcess({ name, pid, state, streams, clients, replays, gaps }) {
  const item = $(`.process[data-name="${name}"]`) ?? addProcess(name)
  const part = selector => item.querySelector(selector)
  const isDown = state === 'down'
  item.dataset.state = state
  say(part('.state'), `state.${state}`)
  part('.pid').hidden = isDown
  say(part('.pid'), 'pid', { pid: String(pid) })
  if (isDown) say(part('.figures'), 'restarts')
  else say(part('.figures'), 'figures', { streams, replays, gaps })
  if (clients.length === 0) say(part('.whom'), 'noClients')
  else {
    delete part('.whom').dataset.t
    part('.whom').replaceChildren(...clients.flatMap(clientOf).slice(1))
  }
  // One button for Kill and Start, so that it keeps the keyboard focus.
  const [drain, kill] = item.querySelectorAll('button')
  drain.disabled = state !== 'ready'
  setAction(kill, state === 'down' ? 'start' : 'kill', name)
}

/** After a comma. */
function clientOf(client) {
  const node = element('span', '', client)
  return [', ', client === id ? say(node, 'you', { client }) : node]
}

function addProcess(name) {
  const item = element('li', 'process panel')
  item.dataset.name = name
  item.toggleAttribute('data-here', name === here)
  const who = element('p', 'who')
  who.append(element('span', 'state'), element('code', 'pid'))
  const buttons = element('p', 'buttons')
  for (const action of ['drain', 'kill']) {
    const button = element('button', 'small')
    button.type = 'button'
    button.onclick = () => order(name, button.dataset.action)
    setAction(button, action, name)
    buttons.append(button)
  }
  item.append(element('h3', '', name), who, element('p', 'figures'), element('p', 'whom'), buttons)
  $('#processes').append(item)
  $('#names').append(element('li', '', name))
  return item
}

async function order(name, action) {
  const response = await fetch(`control/${name}/${action}`, { method: 'POST' }).catch(() => {})
  // Without a connection, nothing else tells this page.
  if (response?.ok && action === 'kill' && !here) showDown(name)
}

function setAction(button, action, name) {
  button.dataset.action = action
  button.dataset.tLabel = { drain: 'drainProcess', kill: 'killProcess', start: 'startProcess' }[
    action
  ]
  say(button, action, { name })
}

// ---- Which client is on which process

async function ask() {
  const response = await fetch(`where?${new URLSearchParams({ id })}`).catch(() => undefined)
  if (!response?.ok) return
  const { asked, locations, count } = await response.json()
  say($('#asked'), 'process', { name: asked })
  if (locations.length === 0) say($('#located'), 'notConnected')
  else {
    delete $('#located').dataset.t
    const parts = locations.flatMap(one => ['; ', say(element('span'), 'location', one)])
    $('#located').replaceChildren(...parts.slice(1))
  }
  say($('#counted'), 'counts', count)
}
$('#ask').onclick = ask

// ---- Helpers

function note(kind, values) {
  const item = element('li')
  item.dataset.note = kind
  item.append(
    say(element('span'), kind, values),
    element('time', '', new Date().toLocaleTimeString('en-GB')),
  )
  $('#log').prepend(item)
  if ($('#log').children.length > 12) $('#log').lastChild.remove()
}

function element(name, className = '', textContent = '') {
  return Object.assign(document.createElement(name), { className, textContent })
}
