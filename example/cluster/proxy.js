// @ts-check
// A minimal load balancer, to show what event streams require of one.
import { once } from 'node:events'
import http from 'node:http'
import { pipeline } from 'node:stream'

/** An empty stream that tells the browser when to come back. A 502 would stop it for good. */
const AGAIN = 'retry: 700\n\n'

/** @param {{ ports: number[], control: number, port: number, host: string }} options */
export async function startProxy({ ports, control, port, host }) {
  // Streams have a turn of their own. With one turn for all requests, a page whose number of requests is a multiple
  // of three would always land on the same of three processes.
  const turns = { streams: 0, others: 0 }
  const server = http.createServer((req, res) => {
    if (req.url?.startsWith('/control/')) return attempt(req, res, [control])
    const turn = turns[isForStream(req) ? 'streams' : 'others']++ % ports.length
    // The process whose turn it is comes first; the others follow in case it is down.
    attempt(req, res, [...ports.slice(turn), ...ports.slice(0, turn)])
  })
  server.listen(port, host)
  await once(server, 'listening')
  const address = /** @type {import('node:net').AddressInfo} */ (server.address())
  return {
    port: address.port,
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/**
 * @param {http.IncomingMessage} req
 * @param {http.ServerResponse} res
 * @param {number[]} ports
 */
function attempt(req, res, [port, ...others]) {
  const { method, url: path, headers } = req
  const upstream = http.request({ port, host: '127.0.0.1', method, path, headers, agent: false })

  upstream.on('response', answer => {
    // The process is being drained. Nothing has been sent yet, so another one can answer instead.
    if (answer.statusCode === 503 && others.length > 0) {
      answer.resume()
      return attempt(req, res, others)
    }
    const { connection: _, ...passedOn } = answer.headers
    res.writeHead(answer.statusCode ?? 502, passedOn)
    // Forwards each chunk as it comes. If the process dies, the browser's connection ends too, so the
    // browser reconnects; if the browser leaves, the process notices.
    pipeline(answer, res, () => {})
  })
  upstream.on('error', () => {
    if (res.headersSent || res.destroyed) res.destroy()
    else if (others.length > 0) attempt(req, res, others)
    else sayAgain(req, res)
  })
  res.on('close', () => upstream.destroy())
  upstream.end() // no request of the page has a body
}

/** @param {http.IncomingMessage} req @param {http.ServerResponse} res */
function sayAgain(req, res) {
  if (!isForStream(req)) return res.writeHead(502).end('No process is up')
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
  res.end(AGAIN)
}

/** @param {http.IncomingMessage} req */
function isForStream(req) {
  return req.headers.accept?.includes('text/event-stream')
}
