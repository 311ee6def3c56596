// @ts-check
// The server side of the WebSocket. With SSE the package or the browser does all of this.
import { WebSocketServer } from 'ws'

/** The number of bytes that may be buffered in the process for one socket. */
const MAX_BUFFERED = 64 * 1024

/**
 * @param {import('node:http').Server} server
 * @param {import('koa-sse-pool').ClientPool} pool
 * @param {{ newestId: () => string, pingMs: number }} options
 */
export function serveSockets(server, pool, { newestId, pingMs }) {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 1024 })
  server.on('upgrade', (req, socket, head) => {
    const [path, query] = (req.url ?? '/').split('?')
    if (path !== '/socket') return socket.destroy()
    const since = new URLSearchParams(query).get('since')
    sockets.handleUpgrade(req, socket, head, ws => {
      bridge(ws, since || newestId())
    })
  })

  /**
   * @param {import('ws').WebSocket} ws
   * @param {string} since
   */
  async function bridge(ws, since) {
    const gone = new AbortController()
    ws.once('close', () => gone.abort())
    ws.on('error', () => ws.terminate())
    const callOff = keepAlive(ws, pingMs)
    // Lets a page that is cut off before the first reading resume too.
    ws.send(JSON.stringify({ id: since, event: 'cursor' }))
    for await (const entry of pool.events({}, { since, signal: gone.signal })) {
      const sent = new Promise(resolve => ws.send(JSON.stringify(entry), resolve))
      // `send` accepts any amount and would keep it in memory for a slow client.
      if (ws.bufferedAmount > MAX_BUFFERED) await sent
    }
    callOff()
    ws.close(1001)
  }

  return sockets
}

/**
 * A peer that vanished silently never closes. It has to answer each ping before the next one.
 *
 * @param {import('ws').WebSocket} ws
 * @param {number} pingMs
 */
function keepAlive(ws, pingMs) {
  let isAlive = true
  ws.on('pong', () => {
    isAlive = true
  })
  const timer = setInterval(() => {
    if (!isAlive) return ws.terminate()
    isAlive = false
    ws.ping()
  }, pingMs)
  return () => clearInterval(timer)
}
