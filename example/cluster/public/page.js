const $ = selector => document.querySelector(selector)

const COLUMNS = 300 // numbers that the lanes hold; as many are seen as there is room for
const STATES = { starting: 'Starting', ready: 'Ready', draining: 'Draining', down: 'Down' }
const ACTIONS = { drain: 'Drain', kill: 'Kill', start: 'Start' }

const id = new URLSearchParams(location.search).get('id') || Math.random().toString(36).slice(2, 7)
$('#client').textContent = id

let source // the EventSource
let lastId = '' // the newest event id
let here // the name of the process that this page is on
let isBehind = false // from the loss of the connection until all that was missed is here
let caughtUp = 0 // numbers that were missed and have come since
let newest // the highest number so far
const counts = { received: 0, missing: 0, doubled: 0 }

function open() {
  source?.close()
  const query = new URLSearchParams({ id })
  if (lastId) query.set('lastEventId', lastId) // a new EventSource knows no Last-Event-ID
  const stream = new EventSource(`events?${query}`)
  source = stream

  stream.onerror = () => {
    if (stream !== source) return stream.close()
    if (here) note('lost', `Lost process ${here}`)
    moveTo(undefined)
    isBehind = lastId !== ''
    // After an HTTP error the browser does not try again. The proxy here never lets one through.
    if (stream.readyState === EventSource.CLOSED) setTimeout(open, 2000)
  }

  on('number', ({ data }) => show(JSON.parse(data)))
  on('processes', ({ data }) => JSON.parse(data).forEach(showProcess))
  // The server's handler sends it, after all that was missed.
  on('welcome', ({ data }) => {
    const { name, pid, store } = JSON.parse(data)
    $('#store').textContent = store
    moveTo(name)
    const missed = isBehind ? `; ${caughtUp} missed meanwhile came first` : ''
    note(isBehind ? 'back' : 'open', `On process ${name}, pid ${pid}${missed}`)
    isBehind = false
    caughtUp = 0
    ask()
  })
  // The log no longer has all that was missed, or is another one, which counts from 1 again.
  on('sse.gap', ({ data }) => {
    const { reason } = JSON.parse(data)
    note('gap', `A gap: ${reason}`)
    if (reason !== 'trimmed' && reason !== 'lagged') newest = undefined
  })

  function on(name, listener) {
    stream.addEventListener(name, event => {
      // In WebKit a stream that was closed in pagehide lives again when the page is restored.
      if (stream !== source) return stream.close()
      listener(event)
      lastId = event.lastEventId
    })
  }
}

open()
addEventListener('pagehide', () => source.close())
addEventListener('pageshow', event => event.persisted && open())

// ---- The check, and its picture

function show({ n, by }) {
  counts.received += 1
  if (n <= newest) counts.doubled += 1
  else if (newest !== undefined) counts.missing += n - newest - 1
  newest = Math.max(n, newest ?? n)
  if (isBehind) caughtUp += 1
  for (const name of Object.keys(counts)) {
    const node = $(`#${name}`)
    node.textContent = counts[name].toLocaleString('en')
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

/** What is replayed comes before the welcome that tells through whom. */
function moveTo(name) {
  here = name
  $('#state').dataset.state = name ? 'open' : 'connecting'
  $('#state').textContent = name ? `On process ${name}` : 'Reconnecting'
  for (const item of $('#processes').children) {
    item.toggleAttribute('data-here', item.dataset.name === name)
  }
  if (!name) return
  for (const column of $('#lanes').children) {
    if (column.style.getPropertyValue('--via')) break
    column.style.setProperty('--via', lane(name))
  }
}

const lane = name => 'ABC'.indexOf(name) + 1

// ---- The processes

function showProcess({ name, pid, state, streams, clients, replays, gaps }) {
  const item = $(`.process[data-name="${name}"]`) ?? addProcess(name)
  const set = (selector, text) => {
    item.querySelector(selector).textContent = text
  }
  const whom = clients.map(client => (client === id ? `${client} (you)` : client)).join(', ')
  item.dataset.state = state
  set('.state', STATES[state])
  set('.pid', state === 'down' ? '' : `pid ${pid}`)
  const figures = [plural(streams, 'stream'), plural(replays, 'replay'), plural(gaps, 'gap')]
  set('.figures', state === 'down' ? 'Comes back by itself' : figures.join(', '))
  set('.whom', whom || 'nobody')
  // One button for both, so that it keeps the keyboard's focus.
  const [drain, kill] = item.querySelectorAll('button')
  drain.disabled = state !== 'ready'
  setAction(kill, state === 'down' ? 'start' : 'kill', name)
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
    button.onclick = () => fetch(`control/${name}/${button.dataset.action}`, { method: 'POST' })
    setAction(button, action, name)
    buttons.append(button)
  }
  item.append(element('h3', '', name), who, element('p', 'figures'), element('p', 'whom'), buttons)
  $('#processes').append(item)
  $('#names').append(element('li', '', name))
  return item
}

function setAction(button, action, name) {
  button.dataset.action = action
  button.textContent = ACTIONS[action]
  button.ariaLabel = `${ACTIONS[action]} process ${name}`
}

// ---- Who is where, as any process can tell

async function ask() {
  const response = await fetch(`where?${new URLSearchParams({ id })}`).catch(() => undefined)
  if (!response?.ok) return
  const { asked, locations, count } = await response.json()
  $('#asked').textContent = `process ${asked}`
  $('#located').textContent =
    locations.map(one => `${one.process}, ${plural(one.streams, 'stream')}`).join('; ') || 'nowhere'
  const { processes, clients, streams } = count
  $('#counted').textContent =
    `${plural(processes, 'process')}, ${plural(clients, 'client')}, ${plural(streams, 'stream')}`
}
$('#ask').onclick = ask

// ---- Small things

function note(kind, text) {
  const item = element('li')
  item.dataset.note = kind
  item.append(
    element('span', '', text),
    element('time', '', new Date().toLocaleTimeString('en-GB')),
  )
  $('#log').prepend(item)
  if ($('#log').children.length > 12) $('#log').lastChild.remove()
}

function element(name, className = '', textContent = '') {
  return Object.assign(document.createElement(name), { className, textContent })
}

function plural(count, word) {
  const many = word.endsWith('s') ? `${word}es` : `${word}s`
  return `${count} ${count === 1 ? word : many}`
}
