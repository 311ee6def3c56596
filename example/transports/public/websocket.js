/** The page's half; the server's half is socket.js. */
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
      // The first message: only now does the page know where to resume.
      else if (entry.event === 'cursor') panel.open()
    }
    // A WebSocket never reconnects by itself. Random, so that not all pages return at once after a restart.
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
