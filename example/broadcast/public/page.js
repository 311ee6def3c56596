const $ = selector => document.querySelector(selector)

const SAMPLES = 120 // half a minute
const samples = []

let source // the EventSource
let isAdmitted = false // has a place in the pool
let isAnswered = false // the server has answered
let newest = 0 // the number of the newest flood event
let received = 0
let missing = 0

function open() {
  source?.close()
  const stream = new EventSource('events')
  source = stream
  setState('connecting')

  stream.onopen = () => {
    isAnswered = true
  }
  stream.onerror = () => {
    if (stream !== source) return stream.close()
    // An answer without a welcome means that the pool is full; the browser was told when to come back.
    setState(isAnswered && !isAdmitted ? 'full' : 'connecting')
    isAdmitted = isAnswered = false
    // A browser does not reconnect after an HTTP error, such as a proxy's while the server restarts.
    if (stream.readyState === EventSource.CLOSED) setTimeout(open, 3000)
  }

  on('welcome', event => {
    isAdmitted = true
    setState('open')
    const { maxClients, windowMiB } = JSON.parse(event.data)
    for (const node of document.querySelectorAll('.max')) node.textContent = maxClients
    $('#window').textContent = `${windowMiB} MiB`
    showCount()
  })
  on('count', event => {
    $('#count b').textContent = event.data
    showCount()
  })
  on('announce', event => announce(JSON.parse(event.data).text))
  on('sample', event => draw(JSON.parse(event.data)))
  on('flood', event => {
    const { n } = JSON.parse(event.data)
    if (newest > 0) missing += n - newest - 1
    newest = n
    received += 1
  })
  // This page was too slow for the log, or away for too long.
  on('sse.gap', event => announce(`Gap: ${JSON.parse(event.data).reason}`))

  function on(name, listener) {
    stream.addEventListener(name, event => {
      // In WebKit a stream closed in pagehide comes back to life when the page is restored.
      if (stream !== source) return stream.close()
      listener(event)
    })
  }
}

open()
addEventListener('pagehide', () => source.close())
addEventListener('pageshow', event => {
  if (event.persisted) open()
})

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
