import { fill, locale, say, speak, t } from './shared/language.js'
import { words } from './words.js'

const $ = selector => document.querySelector(selector)

const SAMPLES = 120 // half a minute
const samples = []

speak(words)
fill({ max: () => t('aFew'), window: () => t('aFixedSize'), memory: 0, unread: 0 })

let isAdmitted = false // has a place in the pool
let newest = 0 // the number of the newest flood event
let received = 0
let missing = 0
let count // connected clients; unknown without a connection
let max // clients that may be connected

const events = new PoolEventSource('events', { json: true })
setState('connecting')

events.addEventListener('status', ({ status }) => {
  if (events.readyState === PoolEventSource.OPEN) return
  // A stream that ends without a welcome means that the pool is full. The server has said when to come back.
  setState(status === 'connecting' && !isAdmitted ? 'full' : 'connecting')
  isAdmitted = false
})
events.addEventListener('welcome', ({ data }) => {
  isAdmitted = true
  setState('open')
  max = data.maxClients
  fill({ max, window: `${data.windowMiB} MiB` })
  showCount()
})
events.addEventListener('count', ({ data }) => {
  count = data
  showCount()
})
events.addEventListener('announce', ({ data }) => announce(element('span', data.text)))
events.addEventListener('sample', ({ data }) => draw(data))
events.addEventListener('flood', ({ data: { n } }) => {
  if (newest > 0) missing += n - newest - 1
  newest = n
  received += 1
})
// This page was too slow for the log, or away for too long.
events.addEventListener('gap', ({ reason }) => announce(say(element('span'), 'gap', { reason })))

$('#flood').onclick = () => fetch('flood', { method: 'POST' })
$('#silent').onclick = () => fetch('silent', { method: 'POST' })
$('#release').onclick = () => fetch('silent', { method: 'DELETE' })
$('#form').onsubmit = event => {
  event.preventDefault()
  fetch('announce', { method: 'POST', body: new URLSearchParams(new FormData(event.target)) })
  event.target.reset()
}

function setState(state) {
  $('#state').dataset.state = state
  say($('#state'), state)
  if (state === 'open') return
  for (const button of $('.actions').children) button.disabled = true
  // Without a connection the page does not know the count.
  count = undefined
  showCount()
}

/** The count may arrive before the welcome that says of how many. */
function showCount() {
  $('#count').hidden = count === undefined || max === undefined
  if (count !== undefined) say($('#count'), 'count', { count })
}

function announce(text) {
  const item = element('li')
  item.append(text, element('time', new Date().toLocaleTimeString('en-GB')))
  $('#log').prepend(item)
  if ($('#log').children.length > 100) $('#log').lastChild.remove()
}

function element(name, textContent = '') {
  return Object.assign(document.createElement(name), { textContent })
}

/** Runs four times a second. Painting for each flood event would slow the page down. */
function draw(sample) {
  const { memory, unread, silent, isFlooding, stats } = sample
  samples.push(sample)
  if (samples.length > SAMPLES) samples.shift()

  fill({ memory: Math.round(memory), unread: Math.round(unread) })
  $('#silent-count').textContent = silent
  $('#received').textContent = received.toLocaleString(locale())
  $('#missing').textContent = missing.toLocaleString(locale())
  $('#stats').textContent = JSON.stringify(stats, null, 2)
  $('#flood').disabled = isFlooding
  $('#silent').disabled = stats.streams >= max
  $('#release').disabled = silent === 0

  const highest = Math.max(...samples.flatMap(one => [one.memory, one.unread]))
  const top = 2 ** Math.max(7, Math.ceil(Math.log2(highest)))
  $('#top').textContent = `${top} MB`
  for (const line of document.querySelectorAll('#chart [data-line]')) {
    const points = samples.map((one, i) => {
      const x = SAMPLES - samples.length + i
      return `${x},${(100 * (1 - one[line.dataset.line] / top)).toFixed(2)}`
    })
    line.setAttribute('points', points.join(' '))
  }
}
