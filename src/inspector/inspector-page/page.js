// @ts-check
/** The page of the inspector. Ids, names and data come from anyone, so they only ever become text. */
import { Chart } from './charts.js'
import { element, Table } from './table.js'
import { bytes, language, number, preferred, remember, setLanguage, t } from './words.js'

/** @type {(selector: string) => any} */
const $ = selector => document.querySelector(selector)

const PAGE = 200
const REFRESH_MS = 5000
const DRAIN_SPREAD_MS = 10_000

/** @type {{ actions: string[], data: boolean }} */
let options = { actions: [], data: false }
/** @type {any} The newest sample of the process that serves this page. */
let sample
/** @type {any[]} */
let processes = []
/** @type {any} The row whose details are open. */
let shown
/** @type {{ missing: string[], silent: string[], isAlone: boolean }} */
let reach = { missing: [], silent: [], isAlone: false }

// ---- Lists

const streams = new Table($('#streams-table'), [
  { name: 'id', title: () => t('client'), text: row => row.id },
  { name: 'process', title: () => t('process'), text: row => nameOf(row.process) },
  { name: 'state', title: () => t('state'), text: row => t(row.state), state: row => row.state },
  {
    name: 'behind',
    title: () => t('behind'),
    text: row => (row.behind < 0 ? '–' : number(row.behind)),
    state: row => (row.behind > 0 ? 'behind' : ''),
  },
  { name: 'buffered', title: () => t('buffered'), text: row => bytes(row.buffered) },
  { name: 'carried', title: () => t('carriedBy'), text: row => row.transport },
  { name: 'channels', title: () => t('inChannels'), text: channelsOf },
])

const channels = new Table($('#channels-table'), [
  { name: 'id', title: () => t('channel'), text: row => row.name },
  { name: 'behind', title: () => t('streams'), text: row => number(row.streams) },
])

/**
 * Loads a list page by page, and the part that is visible once more when it is refreshed.
 */
class List {
  total = 0
  more = false
  #isLoading = false
  /** Changes with the search, so that an answer to an earlier one is dropped. */
  #generation = 0

  /**
   * @param {Table} table
   * @param {string} path
   * @param {() => Record<string, string>} query
   * @param {(row: any) => string} keyOf
   * @param {(row: any) => unknown} afterOf
   * @param {HTMLElement} count
   */
  constructor(table, path, query, keyOf, afterOf, count) {
    Object.assign(this, { table, path, query, keyOf, afterOf, count })
    this.table = table
    this.path = path
    this.query = query
    this.keyOf = keyOf
    this.afterOf = afterOf
    this.count = count
    table.onNearEnd = () => {
      if (this.more) void this.#load(this.table.rows.length, PAGE)
    }
  }

  /** Begins at the top, with the search of now. */
  restart() {
    this.#generation += 1
    this.#isLoading = false
    this.table.toTop()
    return this.#load(0, PAGE, true)
  }

  refresh() {
    const { first, last } = this.table.visible
    const from = Math.max(0, Math.min(first, this.table.rows.length - 1))
    return this.#load(from, Math.min(PAGE, Math.max(last - from + 1, 20)))
  }

  /**
   * @param {number} from the first row that is loaded.
   * @param {number} limit
   */
  async #load(from, limit, isNew = false) {
    if (this.#isLoading) return
    this.#isLoading = true
    const generation = this.#generation
    const before = isNew ? [] : this.table.rows.slice(0, from)
    const last = before.at(-1)
    const query = new URLSearchParams({ ...this.query(), limit: String(limit) })
    if (last !== undefined) query.set('after', String(this.afterOf(last)))
    const answer = await ask(`${this.path}?${query}`)
    if (generation !== this.#generation) return
    this.#isLoading = false
    if (answer === undefined) return
    this.total = answer.total
    const fresh = new Set(answer.rows.map(this.keyOf))
    const kept = before.filter(row => !fresh.has(this.keyOf(row)))
    const rest = isNew || !answer.more ? [] : this.table.rows.slice(from + answer.rows.length)
    const after = rest.filter(row => !fresh.has(this.keyOf(row)))
    this.more = answer.more
    this.table.show([...kept, ...answer.rows, ...after], this.total)
    this.showCount()
    show(answer)
  }

  showCount() {
    const { length } = this.table.rows
    const isAll = length >= this.total
    this.count.textContent = isAll
      ? number(length)
      : t('of', { shown: number(length), total: number(this.total) })
    const empty = this.count.closest('section')?.querySelector('.empty')
    if (empty instanceof HTMLElement) empty.hidden = length > 0
  }
}

const streamList = new List(
  streams,
  'streams',
  () => ({ search: $('#search').value, sort: $('#sort').value }),
  row => `${row.process} ${row.stream}`,
  ({ id, behind, process, stream }) =>
    // The order by client knows no lag.
    JSON.stringify({ id, behind, process, stream }),
  $('#streams-count'),
)
const channelList = new List(
  channels,
  'channels',
  () => ({ search: $('#channel-search').value }),
  row => row.name,
  row => row.name,
  $('#channels-count'),
)

/** @param {any} row */
function channelsOf({ channels: names, channelCount }) {
  const more = channelCount - names.length
  return listed(names) + (more > 0 ? ` +${more}` : '')
}

/** @param {string[]} texts */
function listed(texts) {
  return texts.join(t('comma'))
}

/** @param {string} id */
function nameOf(id) {
  return processes.find(process => process.id === id)?.name ?? '…'
}

// ---- Asking the server

/**
 * @param {string} url
 * @returns {Promise<any>} undefined if it failed.
 */
async function ask(url) {
  const response = await fetch(url).catch(() => undefined)
  if (response?.status === 403 || response?.status === 401) setState('refused')
  return response?.ok ? response.json() : undefined
}

/**
 * @param {string} path
 * @param {object} body
 * @returns {Promise<any>} undefined if it failed, which the page then says.
 */
async function post(path, body) {
  try {
    const response = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (response.ok) return await response.json()
    say(t('failedAction', { why: await response.text() }))
  } catch (error) {
    say(t('failedAction', { why: /** @type {Error} */ (error).message }))
  }
  return undefined
}

/** @param {string} text */
function say(text) {
  $('#done').textContent = text
}

// ---- The event stream

const charts = {
  deliveries: new Chart($('[data-chart=deliveries]'), 1, number),
  bytes: new Chart($('[data-chart=bytes]'), 1, bytes),
  streams: new Chart($('[data-chart=streams]'), 2, number),
  behind: new Chart($('[data-chart=behind]'), 1, number),
}

function listen() {
  const source = new EventSource('events')
  source.addEventListener('open', () => setState('open'))
  source.addEventListener('error', () => {
    setState('connecting')
    // The server refused, so the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) {
      void ask('options')
      setTimeout(listen, REFRESH_MS)
    }
  })
  source.addEventListener('sample', ({ data }) => takeSample(JSON.parse(data)))
  source.addEventListener('processes', ({ data }) => {
    const news = JSON.parse(data)
    processes = news.processes
    show(news)
    showProcesses()
    streams.render()
  })
}

/** @param {any} next */
function takeSample(next) {
  const seconds = sample === undefined ? 0 : (next.at - sample.at) / 1000
  if (seconds > 0 && sample.id === next.id) {
    /** @type {(of: (stats: any) => number) => number} */
    const rate = of => Math.max(0, (of(next.stats) - of(sample.stats)) / seconds)
    charts.deliveries.add([rate(stats => stats.deliveries)])
    charts.bytes.add([rate(stats => stats.bytes)])
    charts.streams.add([rate(stats => stats.opened), rate(stats => sumOf(stats.closed))])
    charts.behind.add([next.stats.lag.max])
  }
  sample = next
  const own = processes.find(({ id }) => id === next.id)
  if (own) Object.assign(own, next)
  else processes = [next, ...processes]
  showProcesses()
  showCounts()
}

/** @param {Record<string, number>} counts */
function sumOf(counts) {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}

/** @param {string} state */
function setState(state) {
  $('#state').dataset.state = state
  $('#state').textContent = t(state)
}

/** @param {{ missing: string[], silent: string[], isAlone: boolean }} answer */
function show({ missing, silent, isAlone }) {
  reach = { missing, silent, isAlone }
  const texts = [
    ...(isAlone ? [t('alone')] : []),
    ...(missing.length > 0 ? [t('missing', { names: listed(missing) })] : []),
    ...(silent.length > 0 ? [t('silent', { names: listed(silent) })] : []),
  ]
  const text = texts.join(' ')
  // An alert that is set again would be read aloud again.
  if ($('#problem').textContent !== text) $('#problem').textContent = text
  $('#problem').hidden = text === ''
}

// ---- Processes and counts

function showProcesses() {
  const list = $('#processes')
  const elements = new Map([...list.children].map(item => [item.dataset.id, item]))
  let clients = 0
  let count = 0
  for (const process of processes) {
    const { stats } = process
    clients += stats.clients
    count += stats.streams
    let item = elements.get(process.id)
    if (item === undefined) {
      item = makeProcess(process)
      list.append(item)
    }
    elements.delete(process.id)
    const isOwn = process.id === sample?.id
    const name = process.name ?? '…'
    const facts = {
      name: isOwn ? t('thisProcess', { name }) : name,
      log: listed([
        process.engine,
        t(stats.log === 'up' ? 'logUp' : 'logDown'),
        ...(process.isReady ? [] : [t('draining')]),
      ]),
      clients: t('sum', { clients: number(stats.clients), streams: number(stats.streams) }),
      behind: `${t('behind')} ${number(stats.lag.max)}`,
      window: listed([
        `${t('window')} ${number(stats.window.events)} / ${number(process.limits.events)}`,
        bytes(stats.window.bytes),
      ]),
    }
    for (const [name, text] of Object.entries(facts)) {
      const cell = item.querySelector(`.${name}`)
      if (cell.textContent !== text) cell.textContent = text
    }
    item.dataset.log = process.isReady ? stats.log : 'down'
    const button = item.querySelector('button')
    button.hidden = !options.actions.includes('drain') || !process.actions.includes('drain')
    if (button.dataset.armed !== 'true') button.textContent = t('drain')
  }
  for (const item of elements.values()) item.remove()
  $('#sum').textContent = t('sum', { clients: number(clients), streams: number(count) })
}

/** @param {any} process */
function makeProcess({ id }) {
  const item = element('li')
  item.dataset.id = id
  for (const name of ['name', 'log', 'clients', 'behind', 'window'])
    item.append(element('span', name))
  const button = /** @type {HTMLButtonElement} */ (element('button', 'danger small'))
  button.type = 'button'
  const streamsNow = () => number(processes.find(process => process.id === id)?.stats.streams ?? 0)
  confirmed(
    button,
    () => t('drain'),
    () => t('drainAgain', { n: streamsNow() }),
    async () => {
      const result = await post('drain', { process: id, spread: DRAIN_SPREAD_MS })
      if (result) say(t('isDraining', { n: number(result.streams) }))
    },
  )
  item.append(button)
  return item
}

function showCounts() {
  const { stats } = sample
  const groups = {
    closed: stats.closed,
    gaps: stats.gapsByReason,
    refusals: stats.refused,
    failed: stats.failed,
  }
  const texts = Object.entries(groups).map(([name, counts]) => {
    const some = Object.entries(counts).filter(([, count]) => count > 0)
    return [
      t(name),
      listed(some.map(([reason, count]) => `${reason} ${number(count)}`)) || t('none'),
    ]
  })
  facts($('#counts'), texts)
}

/**
 * @param {HTMLElement} list
 * @param {string[][]} rows names and values.
 */
function facts(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild?.remove()
  for (const [index, [name = '', value = '']] of rows.entries()) {
    if (list.children[index] === undefined) {
      const row = element('div')
      row.append(element('dt'), element('dd'))
      list.append(row)
    }
    const row = /** @type {HTMLElement} */ (list.children[index])
    for (const [cell, text] of /** @type {[Element, string][]} */ ([
      [row.children[0], name],
      [row.children[1], value],
    ])) {
      if (cell.textContent !== text) cell.textContent = text
    }
  }
}

/**
 * A button that acts when it is pressed a second time within 5 seconds.
 * @param {HTMLButtonElement} button
 * @param {() => string} text
 * @param {() => string} question
 * @param {() => Promise<void>} run
 */
function confirmed(button, text, question, run) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  const disarm = () => {
    clearTimeout(timer)
    button.dataset.armed = 'false'
    button.textContent = text()
  }
  button.addEventListener('click', async () => {
    if (button.dataset.armed === 'true') {
      disarm()
      await run()
      return
    }
    button.dataset.armed = 'true'
    button.textContent = question()
    timer = setTimeout(disarm, 5000)
  })
}

// ---- One stream

/** @param {any} row */
async function open(row) {
  if (row === undefined) return
  shown = row
  $('#detail-title').textContent = row.id
  $('#sent').replaceChildren()
  facts($('#facts'), [])
  if (!$('#detail').open) $('#detail').showModal()
  await loadDetail()
}

async function loadDetail() {
  const row = shown
  const query = new URLSearchParams({ process: row.process, stream: row.stream })
  const answer = await ask(`sent?${query}`)
  if (shown !== row) return
  $('#detail-send').hidden = !options.actions.includes('send')
  $('#detail-remove').hidden = !options.actions.includes('remove')
  if (answer === undefined) {
    facts($('#facts'), [[t('state'), t('gone')]])
    return
  }
  const { row: now, cursor, tail, lastEventId, waiting, sent } = answer
  facts($('#facts'), [
    [t('process'), nameOf(row.process)],
    [t('state'), listed([t(now.state), now.transport])],
    [t('behind'), now.behind < 0 ? '–' : number(now.behind)],
    [t('waiting'), number(waiting)],
    [t('buffered'), bytes(now.buffered)],
    [t('cursor'), cursor || '–'],
    [t('tail'), tail || '–'],
    [t('lastEventId'), lastEventId || '–'],
    [t('inChannels'), channelsOf(now) || '–'],
  ])
  const items = sent.map((/** @type {any} */ entry) => {
    const item = element('li')
    if (!entry.isLive) item.className = 'old'
    item.append(
      element('b', '', entry.event),
      element('span', 'soft', entry.target === '*' ? t('everyone') : entry.target),
      element('span', '', bytes(entry.bytes)),
      element('code', '', entry.id),
    )
    if (entry.data !== undefined) item.append(element('code', 'data', entry.data))
    return item
  })
  $('#sent').replaceChildren(
    ...(items.length > 0 ? items : [element('li', 'soft', t('nothingSent'))]),
  )
}

/**
 * @param {string} to
 * @param {string} name
 */
function prepareSend(to, name) {
  $('#detail').close()
  $('#to').value = to
  $('#to-name').value = name
  $('#event').focus()
}

// ---- Controls

/** @param {string} tag */
function speak(tag) {
  setLanguage(tag)
  const other = language === 'zh' ? 'en' : 'zh'
  $('#language').lang = other
  $('#language').textContent = other === 'zh' ? '中文' : 'English'
  setState($('#state').dataset.state)
  if ($('#detail-remove').dataset.armed !== 'true') $('#detail-remove').textContent = t('remove')
  streams.titles()
  channels.titles()
  streamList.showCount()
  channelList.showCount()
  show(reach)
  showProcesses()
  if (sample) showCounts()
  if ($('#detail').open) void loadDetail()
}

function later() {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  return (/** @type {() => void} */ run) => {
    clearTimeout(timer)
    timer = setTimeout(run, 200)
  }
}

const searchLater = later()
const searchChannelsLater = later()

$('#language').addEventListener('click', () => {
  const tag = language === 'zh' ? 'en' : 'zh'
  remember(tag)
  speak(tag)
})
$('#search').addEventListener('input', () => searchLater(() => streamList.restart()))
$('#channel-search').addEventListener('input', () =>
  searchChannelsLater(() => channelList.restart()),
)
$('#sort').addEventListener('change', () => streamList.restart())
for (const form of [$('#filter'), $('#channel-filter')]) {
  form.addEventListener('submit', event => event.preventDefault())
}
streams.onOpen = open
channels.onOpen = row => {
  if (row === undefined) return
  $('#search').value = `#${row.name}`
  void streamList.restart()
  $('#streams').scrollIntoView()
}
$('#detail-close').addEventListener('click', () => $('#detail').close())
$('#detail').addEventListener('close', () => {
  shown = undefined
  streams.focus()
})
$('#detail-refresh').addEventListener('click', loadDetail)
$('#detail-send').addEventListener('click', () => prepareSend('client', shown.id))
confirmed(
  $('#detail-remove'),
  () => t('remove'),
  () => t('removeAgain'),
  async () => {
    const { id } = shown
    const result = await post('remove', { client: id })
    $('#detail').close()
    if (result) say(t('wasRemoved', { id: result.id }))
    void streamList.refresh()
  },
)
$('#send-form').addEventListener('submit', async (/** @type {Event} */ event) => {
  event.preventDefault()
  const result = await post('send', {
    to: $('#to').value,
    name: $('#to-name').value,
    event: $('#event').value,
    data: $('#data').value,
  })
  if (result) say(t('wasSent', { id: result.id }))
})
document.addEventListener('keydown', event => {
  const isTyping =
    event.target instanceof Element && event.target.matches('input, select, textarea')
  if (isTyping || event.ctrlKey || event.altKey || event.metaKey || $('#detail').open) return
  if (event.key === '/') $('#search').focus()
  else if (event.key === 'r') refreshAll()
  else return
  event.preventDefault()
})

function refreshAll() {
  return Promise.all([streamList.refresh(), channelList.refresh()])
}

async function refreshOften() {
  // A hidden page must not make processes search their streams.
  if ($('#follow').checked && !document.hidden) await refreshAll()
  setTimeout(refreshOften, REFRESH_MS)
}

speak(preferred())
options = (await ask('options')) ?? options
$('#send').hidden = !options.actions.includes('send')
listen()
await Promise.all([streamList.restart(), channelList.restart()])
document.body.dataset.ready = 'true'
setTimeout(refreshOften, REFRESH_MS)
