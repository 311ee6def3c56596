import { drawMonths } from './chart.js'
import { locale, onLanguage, say, speak, t } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

speak(words)

/** The newest known figures of each month, by month. */
const months = new Map()
const chart = drawMonths($('#chart'), months)

let source // the PoolEventSource; undefined without a stream
let hasSnapshot = false
let isBehind = false // from a loss until the replay is complete
let failures = 0
let timer

// ---- The stream

/** Opens a stream with a new ticket. To reconnect, the client uses the old ticket and its cookie. */
async function connect() {
  disconnect()
  setState('connecting')
  const mine = Symbol()
  connect.latest = mine
  const response = await fetch('event/ticket', { method: 'POST' }).catch(() => undefined)
  const { ticket } = response?.ok ? await response.json() : {}
  if (connect.latest !== mine) return // superseded by a later call, or the page was left
  if (response?.status === 401) return signedOut('signInEnded')
  if (response?.status === 403) return refused()
  if (!ticket) return again()
  count('#tickets')
  listen(new PoolEventSource(`event/stats?${new URLSearchParams({ ticket })}`, { json: true }))
}

function listen(stream) {
  source = stream
  hasSnapshot = false
  isBehind = false

  on('open', () => {
    count('#connections')
    setState('open')
  })
  on('status', ({ status }) => {
    if (stream.readyState === PoolEventSource.OPEN) return
    if ($('#state').dataset.state === 'open') note('lost')
    setState('connecting')
    isBehind = true
    // A ticket that no longer admits the page is refused. A stream cut off before the snapshot may have
    // received an order, and would resume from its id without ever getting a snapshot.
    if (status === 'refused' || status === 'ended' || !hasSnapshot) again()
  })

  on('snapshot', ({ data: { months: rows } }) => {
    hasSnapshot = true
    isBehind = false
    failures = 0
    for (const row of rows) take(row, 'snapshot')
    show()
    count('#snapshots')
    note('snapshot', { orders: Number($('#total').textContent) })
  })
  on('order', ({ data: { id, product, month } }) => {
    const how = isBehind ? 'replayed' : 'live'
    take(month, how)
    show()
    showOrder({ id, product, month: month.month, how })
  })
  // Sent by the handler on the server after a reconnect; arrives after the replay.
  on('ready', () => {
    if (isBehind) note('back')
    isBehind = false
    failures = 0
  })
  // The page was away for longer than the log goes back; the server sends a snapshot next.
  on('gap', ({ reason }) => note('gap', { reason }))
  on('sse.cursor', () => {
    $('#heartbeat').hidden = false
    $('#heartbeat time').textContent = clock()
  })

  /** For as long as this is the stream of the page. */
  function on(name, listener) {
    stream.addEventListener(name, event => stream === source && listener(event))
  }
}

/** Keeps the newest version of a month, for snapshots and changes alike, in whatever order they arrive. */
function take(row, how) {
  const known = months.get(row.month) ?? {
    orders: 0,
    version: 0,
    snapshot: 0,
    live: 0,
    replayed: 0,
  }
  if (row.version <= known.version) return
  const part = known[how] + row.orders - known.orders
  months.set(row.month, { ...known, ...row, [how]: part })
}

function disconnect() {
  clearTimeout(timer)
  connect.latest = undefined
  source?.close()
  source = undefined
}

/** Waits longer each time, and at random: after a restart not all windows should return at once. */
function again() {
  disconnect()
  failures += 1
  timer = setTimeout(connect, Math.random() * Math.min(30_000, 500 * 2 ** failures))
}

// ---- Signing in

$('#sign-in').onsubmit = async event => {
  event.preventDefault()
  const account = Object.fromEntries(new FormData($('#sign-in')))
  const response = await post('session', account).catch(() => undefined)
  if (response?.ok) return signedIn(await response.json())
  say($('#refusal'), response?.status === 401 ? 'wrong' : 'signInFailed')
}

$('#sign-out').onclick = async () => {
  await fetch('session', { method: 'DELETE' })
  signedOut()
}

function signedIn({ name }) {
  $('#sign-in').reset()
  $('#sign-in').hidden = true
  clear('#refusal')
  $('#sign-out').hidden = false
  clear('#user').textContent = name
  for (const selector of ['#view', '.sum']) $(selector).hidden = false
  connect()
}

/** @param why the key of the reason; undefined if the user wanted it */
function signedOut(why, values) {
  disconnect()
  forget()
  $('#sign-in').hidden = false
  $('#sign-out').hidden = true
  say($('#user'), 'nobody')
  if (why) say($('#refusal'), why, values)
  else clear('#refusal')
  setState('closed')
}

function refused() {
  signedOut('mayNot', { name: $('#user').textContent })
  note('refused')
}

function forget() {
  months.clear()
  show()
  for (const selector of ['#view', '.sum']) $(selector).hidden = true
}

// ---- The shop, open to everyone

const PRODUCTS = ['cup', 'teapot', 'kettle', 'tea, a tin']

$('#order').onclick = () => place(1)
$('#burst').onclick = () => place(50)
$('#cut').onclick = () => fetch('cut', { method: 'POST' })

async function place(amount) {
  const orders = Array.from({ length: amount }, () =>
    post('orders', { product: PRODUCTS[random(PRODUCTS.length)], day: someDay() }),
  )
  const answers = await Promise.allSettled(orders)
  const placed = answers.filter(({ value }) => value?.ok).length
  say($('#shop'), placed === amount ? 'placed' : 'somePlaced', { placed })
}

/** A day in the last year, so that past months change too. */
function someDay() {
  const now = new Date()
  const then = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - random(12), 1)
  return new Date(then).toISOString().slice(0, 10)
}

function random(below) {
  return Math.floor(Math.random() * below)
}

function post(path, body) {
  const headers = { 'Content-Type': 'application/json' }
  return fetch(path, { method: 'POST', headers, body: JSON.stringify(body) })
}

// ---- Display

function setState(state) {
  $('#state').dataset.state = state
  say($('#state'), state)
  $('#cut').disabled = state !== 'open'
  // Its green dot means a live connection. The next heartbeat shows it again.
  if (state !== 'open') $('#heartbeat').hidden = true
}

function show() {
  const rows = [...months.values()].sort((a, b) => (a.month < b.month ? -1 : 1))
  const sum = name => rows.reduce((total, row) => total + row[name], 0)
  $('#total').textContent = sum('orders')
  $('#revenue').textContent = money(sum('cents'))
  $('#months').replaceChildren(
    ...rows.map(({ month, orders, cents }) => {
      const row = element('tr')
      row.dataset.month = month
      const head = element('th', { scope: 'row', textContent: monthName(month) })
      const cells = [orders, money(cents)].map(textContent => element('td', { textContent }))
      row.append(head, ...cells)
      return row
    }),
  )
  chart.show()
}

function showOrder({ id, product, month, how }) {
  const item = element('li')
  Object.assign(item.dataset, { event: 'order', order: id, how })
  item.append(
    element('code', { textContent: `#${id}` }),
    say(element('span'), 'sold', { product: () => t(product), month: () => monthName(month) }),
    how === 'live' ? element('em') : say(element('em'), how),
  )
  insert(item)
}

function note(name, values) {
  const item = element('li', { className: 'note' })
  item.dataset.note = name
  item.append(say(element('span'), name, values), element('time', { textContent: clock() }))
  insert(item)
}

function insert(item) {
  $('#log').prepend(item)
  if ($('#log').children.length > 300) $('#log').lastChild.remove()
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties)
}

/** Takes the text away, also for when the language changes. */
function clear(selector) {
  const node = $(selector)
  delete node.dataset.t
  node.textContent = ''
  return node
}

function count(selector) {
  $(selector).textContent = Number($(selector).textContent) + 1
}

function money(cents) {
  return (cents / 100).toLocaleString(locale(), { style: 'currency', currency: 'EUR' })
}

function monthName(month) {
  const date = new Date(`${month}-01T00:00:00Z`)
  return date.toLocaleDateString(locale(), { month: 'short', year: 'numeric', timeZone: 'UTC' })
}

function clock() {
  return new Date().toLocaleTimeString('en-GB')
}

// ---- Start

const session = await fetch('session')
if (session.status === 200) signedIn(await session.json())
else signedOut()
// The months of chart and table.
onLanguage(show)
