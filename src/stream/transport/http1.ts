/**
 * HTTP/1.0 and 1.1 (RFC 9112). The request may have no socket, or something that hardly looks like one: some
 * serverless adapters and test tools make requests by hand.
 */
import { OutgoingMessage, type ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { detachSocket } from './lean.js'
import type { Transport } from './transport.js'

export const http1: Transport<ServerResponse> = {
  onceGone(res, listener) {
    res.on('close', listener)
    // A pipelined response has no socket yet, and would not notice that its client left.
    if (res.socket === null) res.req.socket?.once?.('close', () => listener.call(res))
  },

  open(res, headers, first) {
    // An app's own `server.timeout` would cut a quiet stream between two heartbeats.
    if (!isMadeUp(res)) res.setTimeout(0)
    // A body that nobody reads would hold up the rest of the request until `requestTimeout` cuts the stream.
    const { req } = res
    if (!req.complete && req.readableFlowing === null && req.listenerCount('readable') === 0) {
      req.resume()
    }
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
    return takesFramedChunks(res) ? (res.socket as Socket).writableLength : res.writableLength
  },

  onceDrained(res, listener) {
    const emitter = takesFramedChunks(res) ? (res.socket as Socket) : res
    emitter.once('drain', listener)
  },

  setTimeout(res, milliseconds) {
    if (res.socket === null || isMadeUp(res)) return false
    res.setTimeout(milliseconds)
    return true
  },

  end(res, isLast) {
    if (res.socket?.writable === false) return
    const { socket } = res.req
    if (isLast || http1.server(res)?.listening === false) {
      res.once('finish', () => socket?.destroySoon?.())
    }
    res.end()
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

  leave(res) {
    res.setHeader('Connection', 'close')
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

/** Whether its socket is a mere stand-in, without a timer. A pipelined response has none yet. */
function isMadeUp({ socket }: ServerResponse): boolean {
  return socket !== null && typeof socket.setTimeout !== 'function'
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
