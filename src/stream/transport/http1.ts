/**
 * HTTP/1.0 and 1.1 (RFC 9112). Not every response has a `Socket` of Node: adapters for serverless platforms and
 * tools that inject requests into an app give it an object with the fewest methods that Node calls itself.
 */
import { OutgoingMessage, type ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { detachSocket } from './lean.js'
import type { Transport } from './transport.js'

export const http1: Transport<ServerResponse> = {
  name: 'http1',

  open(res, headers, first) {
    // An app's own `server.timeout` would cut a quiet stream between two heartbeats.
    http1.setTimeout(res, 0)
    // Passed here because Node keeps headers that were set before for as long as the response.
    res.writeHead(200, headers)
    if (!takesFramedChunks(res)) {
      res.write(first.plain)
      return
    }
    // The headers, the first bytes and what is sent in this turn go out as one packet.
    const socket = res.socket as Socket
    socket.cork()
    opening.add(socket)
    process.nextTick(uncork, socket)
    res.flushHeaders()
    socket.write(first.framed)
  },

  write(res, chunk) {
    // Node has ended the socket of a client that sent FIN, or the app has ended the response itself:
    // a chunk after the last one would break the connection.
    if (res.socket?.writable === false || res.writableEnded) return true
    // Framing a chunk once for all sockets costs about half as much as `res.write` on each.
    return takesFramedChunks(res)
      ? (res.socket as Socket).write(chunk.framed)
      : res.write(chunk.plain)
  },

  bufferedBytes(res) {
    if (takesFramedChunks(res)) return (res.socket as Socket).writableLength
    // NaN without a socket of Node.
    return res.writableLength || 0
  },

  isSending({ socket }) {
    return socket !== null && !opening.has(socket)
  },

  onceDrained(res, listener) {
    const emitter = takesFramedChunks(res) ? (res.socket as Socket) : res
    emitter.once('drain', listener)
  },

  setTimeout(res, milliseconds) {
    // A pipelined response passes it on to its socket later.
    if (res.socket === null || has(res.socket, 'setTimeout')) res.setTimeout(milliseconds)
  },

  end(res, leave) {
    if (res.socket?.writable === false) return
    res.end()
    if (!leave && http1.server(res)?.listening !== false) return
    // Kept alive, the connection would hold up `server.close()` and bring the client back to this process.
    const { socket } = res.req
    if (has(socket, 'destroySoon')) res.once('finish', () => socket.destroySoon())
  },

  cut(res) {
    // Without a last chunk the response is incomplete (RFC 9112, 8), so `fetch` sees an error.
    res.destroy()
  },

  destroy(res) {
    res.destroy()
  },

  detach(res) {
    return takesFramedChunks(res) ? detachSocket(res) : undefined
  },

  discardBody({ req }) {
    // `requestTimeout` cuts the connection of a request that is not received whole in time.
    if (!req.complete && req.readableFlowing === null) req.resume()
  },

  server(res) {
    return (res.req.socket as (Socket & { server?: Server }) | undefined)?.server
  },
}

/** Sockets that are corked for the turn in which their stream opens. */
const opening = new Set<Socket>()

function uncork(socket: Socket): void {
  opening.delete(socket)
  socket.uncork()
}

/** Whether the socket, which may not be one of Node's, has the method. */
function has(socket: Socket | undefined, method: 'destroySoon' | 'setTimeout'): boolean {
  return typeof socket?.[method] === 'function'
}

function takesFramedChunks(res: ServerResponse): boolean {
  return (
    // HTTP/1.0 has no chunks.
    res.chunkedEncoding &&
    // A pipelined response gets its socket only when the responses before it have ended.
    res.socket !== null &&
    // Middleware that wraps `write`, to compress for example, must see every byte.
    res.write === OutgoingMessage.prototype.write &&
    // If the app has corked it, our chunks would overtake what `res.write` holds back.
    (res.writableCorked === 0 || (res.writableCorked === 1 && opening.has(res.socket)))
  )
}
