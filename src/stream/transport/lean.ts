/**
 * A lean stream keeps only the socket of its connection. Parser, request, response and `ctx` are
 * released as soon as Koa has finished with them, which halves the memory of an idle stream.
 *
 * Node has no public way to do so while a response is open, so this calls the listeners that Node
 * itself calls when a response has ended and when a connection closes. It checks first that everything
 * is as in Node 20 to 26, and otherwise leaves the connection alone.
 */
import { OutgoingMessage, type ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import type { Transport } from './transport.js'

/** The last chunk and an empty trailer (RFC 9112, 7.1). */
const LAST_CHUNK = '0\r\n\r\n'

export const lean: Transport<Socket> = {
  name: 'lean',

  open() {
    throw new Error('A lean stream is open already')
  },

  write(socket, chunk) {
    // A client that sent FIN has ended it; a write would be an error.
    return socket.writable ? socket.write(chunk.framed) : true
  },

  bufferedBytes(socket) {
    return socket.writableLength
  },

  isSending() {
    return true
  },

  onceDrained(socket, listener) {
    socket.once('drain', listener)
  },

  setTimeout(socket, milliseconds) {
    socket.setTimeout(milliseconds)
  },

  end(socket) {
    if (!socket.writable) return
    socket.write(LAST_CHUNK)
    // Without a parser it cannot serve another request.
    socket.destroySoon()
  },

  cut(socket) {
    socket.destroy()
  },

  destroy(socket) {
    socket.destroy()
  },

  discardBody() {
    // Only a stream whose request is complete becomes lean.
  },

  server(socket) {
    return (socket as Socket & { server?: Server }).server
  },
}

/** The fields that Node's HTTP server adds to a socket, as far as they are used here. */
interface HttpSocket extends Socket {
  readonly _httpMessage?: ServerResponse | null
  readonly parser?: { readonly socket: Socket; readonly incoming: unknown } | null
}

/** `_last`: the connection ends with this response, because the client or the app wants it to. */
type LastResponse = ServerResponse & { readonly _last?: boolean }

type Listener = (...args: unknown[]) => void

/** Node's own listeners of a connection, by event and function name. */
const OF_SOCKET = {
  close: 'bound socketOnClose',
  data: 'bound socketOnData',
  drain: 'bound socketOnDrain',
  end: 'bound socketOnEnd',
  error: 'socketOnError',
  timeout: 'socketOnTimeout',
} as const

/** Since Node 26.12 it is the second one. */
const OF_RESPONSE = ['bound resOnFinish', 'onResponseFinish'] as const

/**
 * Takes the socket out of Node's HTTP server, in the middle of a chunked response. Emits `finish` on
 * the response and, soon after, `close`.
 *
 * Undefined when something is not as expected; nothing has been touched then.
 */
export function detachSocket(res: ServerResponse): Socket | undefined {
  const socket = res.socket as HttpSocket | null
  const isOrdinary =
    socket !== null &&
    !socket.destroyed &&
    socket._httpMessage === res &&
    socket.parser?.socket === socket &&
    // A waiting pipelined request would be answered in the middle of the stream.
    socket.parser.incoming === res.req &&
    // A request body that is still on its way would be lost.
    res.req.complete &&
    // Middleware that wraps `end`, to save a session for example, must see the end.
    res.end === OutgoingMessage.prototype.end &&
    // Otherwise Node closes the connection at `finish`.
    (res as LastResponse)._last === false
  if (!isOrdinary) return undefined
  const ofSocket = findAll(socket, OF_SOCKET)
  const hasFinish = OF_RESPONSE.some(finish => findAll(res, { finish }) !== undefined)
  if (ofSocket === undefined || !hasFinish) return undefined

  // Node takes the socket back from the parser as soon as it has a `data` listener.
  socket.on('data', ignore)
  // Node's bookkeeping at the end of a response. Otherwise the server takes the connection for a busy
  // or an idle one, and closes it or answers the next request inside the stream.
  res.emit('finish')
  // Node's bookkeeping at the end of a connection, which frees the parser for another one.
  ofSocket.close.call(socket)
  for (const [event, listener] of Object.entries(ofSocket)) socket.removeListener(event, listener)
  // `finish` has set a timeout that would close the stream as an idle connection.
  socket.setTimeout(0)
  // A connection reset needs no report, but without a listener it would end the process.
  socket.on('error', ignore)
  socket.on('end', endSocket)
  // A request was waiting after all and has taken over the socket.
  if (socket._httpMessage || socket.parser) socket.destroy()
  return socket
}

/** The listeners with these names; undefined unless each is there exactly once. */
function findAll<Event extends string>(
  emitter: { listeners(event: string): unknown[] },
  names: Record<Event, string>,
): Record<Event, Listener> | undefined {
  const found: Partial<Record<Event, Listener>> = {}
  for (const event of Object.keys(names) as Event[]) {
    const listeners = emitter.listeners(event) as Listener[]
    const [listener, ...others] = listeners.filter(({ name }) => name === names[event])
    if (listener === undefined || others.length > 0) return undefined
    found[event] = listener
  }
  return found as Record<Event, Listener>
}

function ignore(): void {}

function endSocket(this: Socket): void {
  this.destroySoon()
}
