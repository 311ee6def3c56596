import { longPoll } from './long-polling.js'
import { Panel } from './panel.js'
import { draw } from './plot.js'
import { poll } from './polling.js'
import { listenOn } from './pool-client.js'
import { fill, say, speak } from './shared/language.js'
import { listen } from './sse.js'
import { converse } from './websocket.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

speak(words)
say($('#state'), 'loading')

const TRANSPORTS = {
  polling: poll,
  longPolling: longPoll,
  webSocket: converse,
  sse: listen,
  client: listenOn,
}
const PAINT_MS = 100

/** Identifies this page to the server's meter, and has no other purpose. */
const page = String(Math.random()).slice(2)
const settings = await (await fetch('settings')).json()
let plots = []
let outages = []
let isReachable = true

/** The server's clock. A difference within the measurement error counts as none. */
const clock = {
  offset: 0,
  error: Number.POSITIVE_INFINITY,
  now: () => Date.now() + clock.offset,
  set(theirs, asked, answered) {
    const error = (answered - asked) / 2 + 1
    if (error >= clock.error) return
    const offset = theirs - (asked + answered) / 2
    clock.error = error
    clock.offset = Math.abs(offset) <= error ? 0 : offset
  },
}

fill({
  rate: Math.round(1000 / settings.everyMs),
  offline: settings.offlineMs / 1000,
  poll: settings.pollMs / 1000,
  burst: settings.burst,
  latest: settings.latest,
})

// Before the transports start, because every reading is measured by this clock.
await look()
plots = Object.keys(TRANSPORTS).map(name => {
  const node = document.getElementById(name)
  node.querySelector('header').after($('#parts').content.cloneNode(true))
  node.querySelector('[data-fact="lines"]').textContent = settings.lines[name]
  return { name, node, panel: new Panel(node, clock, showState) }
})
// The parts were not there when the language was chosen.
fill({})
const stops = plots.map(({ name, panel }) => TRANSPORTS[name](page, panel, settings))

setInterval(look, settings.figuresMs)
setInterval(paint, PAINT_MS)

addEventListener('pagehide', () => {
  for (const stop of stops) stop()
})
addEventListener('pageshow', event => {
  if (event.persisted) location.reload()
})

for (const name of ['burst', 'cut', 'offline']) {
  const button = document.getElementById(name)
  button.onclick = () => fetch(name, { method: 'POST' }).catch(() => {})
  button.disabled = false
}

function paint() {
  for (const { panel } of plots) panel.show()
  draw(plots, outages, clock.now())
}

/** Fetches the figures; these requests are not counted. */
async function look() {
  const asked = Date.now()
  try {
    const figures = await (await fetch(`figures?page=${page}`)).json()
    // The server has restarted and counts from the beginning.
    if (figures.run !== settings.run) location.reload()
    clock.set(figures.now, asked, Date.now())
    outages = figures.outages
    for (const { name, panel } of plots) panel.cost(figures.costs[name])
    isReachable = true
  } catch {
    isReachable = false
  }
  // The first call comes before the panels exist.
  if (plots.length > 0) showState()
}

function showState() {
  const open = plots.filter(({ panel }) => panel.state === 'open').length
  const state = isReachable && open === plots.length ? 'open' : 'connecting'
  $('#state').dataset.state = state
  if (state === 'open') say($('#state'), 'allConnected')
  else say($('#state'), 'someConnected', { open, all: plots.length })
}
