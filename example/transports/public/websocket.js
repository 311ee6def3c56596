/** The page's half; the other one is socket.js on the server. */
export function converse(page, panel, { retryMs }) {
  let socket
  let timer
  let lastId = ''

  function connect() {
    const url = new URL(`socket?${new URLSearchParams({ page, since: lastId })}`, location)
    url.protocol = url.protocol.replace('http', 'ws')
    socket = new WebSocket(url)
    socket.onmessage = event => {
      const entry = JSON.parse(event.data)
      lastId = entry.id
      if (entry.event === 'message') panel.take(JSON.parse(entry.data))
      // The first one: not before is it known where to go on.
      else if (entry.event === 'cursor') panel.open()
    }
    // It never comes back by itself; and not all pages at once, after a restart.
    socket.onclose = () => {
      panel.lost()
      timer = setTimeout(connect, retryMs * (0.5 + Math.random()))
    }
  }
  connect()
  return () => {
    clearTimeout(timer)
    socket.onclose = null
    socket.close()
  }
}
