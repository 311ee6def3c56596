const $ = selector => document.querySelector(selector)

const SAMPLES = 120 // half a minute
const samples = []

let isAdmitted = false // has a place in the pool
let newest = 0 // the number of the newest flood event
let received = 0
let missing = 0

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
  for (const node of document.querySelectorAll('.max')) node.textContent = data.maxClients
  $('#window').textContent = `${data.windowMiB} MiB`
  showCount()
})
events.addEventListener('count', ({ data }) => {
  $('#count b').textContent = data
  showCount()
})
events.addEventListener('announce', ({ data }) => announce(data.text))
events.addEventListener('sample', ({ data }) => draw(data))
events.addEventListener('flood', ({ data: { n } }) => {
  if (newest > 0) missing += n - newest - 1
  newest = n
  received += 1
})
// This page was too slow for the log, or away for too long.
events.addEventListener('gap', ({ reason }) => announce(`Gap: ${reason}`))

$('#flood').onclick = () => fetch('flood', { method: 'POST' })
$('#silent').onclick = () => fetch('silent', { method: 'POST' })
$('#release').onclick = () => fetch('silent', { method: 'DELETE' })
$('#form').onsubmit = event => {
  event.preventDefault()
  fetch('announce', { method: 'POST', body: new URLSearchParams(new FormData(event.target)) })
  event.target.reset()
}

function setState(state) {
  const words = { connecting: 'Connecting', open: 'Connected', full: 'Full: waiting for a place' }
  $('#state').dataset.state = state
  $('#state').textContent = words[state]
  if (state === 'open') return
  for (const button of $('.actions').children) button.disabled = true
  // Without a connection the page does not know the count.
  $('#count b').textContent = ''
  showCount()
}

/** The count may arrive before the welcome that says of how many. */
function showCount() {
  $('#count').hidden = $('#count b').textContent === '' || $('.max').textContent === ''
}

function announce(text) {
  const item = document.createElement('li')
  const time = document.createElement('time')
  time.textContent = new Date().toLocaleTimeString('en-GB')
  item.append(Object.assign(document.createElement('span'), { textContent: text }), time)
  $('#log').prepend(item)
  if ($('#log').children.length > 100) $('#log').lastChild.remove()
}

/** Runs four times a second. Painting for each flood event would slow the page down. */
function draw(sample) {
  const { memory, unread, silent, isFlooding, stats } = sample
  samples.push(sample)
  if (samples.length > SAMPLES) samples.shift()

  $('#memory').textContent = Math.round(memory)
  $('#unread').textContent = Math.round(unread)
  $('#silent-count').textContent = silent
  $('#received').textContent = received.toLocaleString('en')
  $('#missing').textContent = missing.toLocaleString('en')
  $('#stats').textContent = JSON.stringify(stats, null, 2)
  $('#flood').disabled = isFlooding
  $('#silent').disabled = stats.streams >= Number($('.max').textContent)
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
