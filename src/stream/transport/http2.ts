/** HTTP/2 (RFC 9113), through Node's compatibility API, which Koa uses. */
import { constants, type Http2ServerResponse, type Http2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Transport } from './transport.js'

export const http2: Transport<Http2ServerResponse> = {
  name: 'http2',

  open(res, headers, first) {
    res.setTimeout(0)
    res.writeHead(200, headers)
    res.write(first.plain)
  },

  write(res, chunk) {
    // The app has ended it: a write would reset the stream, which WebKit never notices. Or the client has
    // reset it: a write would be an error in the app's log.
    if (res.writableEnded || !res.stream?.writable) return true
    return res.write(chunk.plain)
  },

  bufferedBytes(res) {
    return res.writableLength
  },

  isSending() {
    return true
  },

  onceDrained(res, listener) {
    res.once('drain', listener)
  },

  setTimeout(res, milliseconds) {
    res.setTimeout(milliseconds)
  },

  end(res, leave) {
    const session = res.stream?.session
    res.end()
    if (session && (leave || http2.server(res)?.listening === false)) leaveSession(session)
  },

  session(res) {
    return res.stream?.session
  },

  onceAborted(res, listener) {
    const { stream } = res
    stream.once('aborted', () => {
      listener()
      // After a reset with NO_ERROR, Node waits until the client has taken what was written: for ever.
      // Not now: a reset of our own has not been sent yet.
      setImmediate(() => stream.destroy())
    })
  },

  cut(res) {
    // A reset would show the failure, but WebKit never notices one and would wait for ever.
    res.end()
  },

  destroy(res) {
    const { stream } = res
    // The client has reset it without an error, and Node waits for ever for the end of what was written.
    if (stream?.closed) stream.destroy()
    // A clean end would wait behind the flow control window that the client does not open.
    else stream?.close(constants.NGHTTP2_CANCEL)
  },

  discardBody({ req, stream }) {
    // What nobody reads takes up the session's flow control window, and other uploads wait for ever.
    if (!stream?.endAfterHeaders && req.readableFlowing === null) req.resume()
  },

  server(res) {
    return (res.stream?.session?.socket as { server?: Server } | undefined)?.server
  },
}

/** How often a session that is left is checked, in milliseconds. */
const LEAVE_MS = 15_000

const leaving = new WeakSet<Http2Session>()

/**
 * Sends GOAWAY (RFC 9113, 6.8): the client opens no further streams on this session, and it closes when those
 * that are open have ended.
 */
export function leaveSession(session: Http2Session): void {
  if (session.closed || session.destroyed || leaving.has(session)) return
  leaving.add(session)
  // Node hides the socket of a session, but `once` returns it.
  const socket: Socket = session.socket.once('close', () => clearInterval(timer))
  let before: number | undefined
  // A client that takes nothing, or does not close its side, would hold up `server.close()` for ever.
  const timer = setInterval(() => {
    const isWaiting = session.destroyed || (session.state.outboundQueueSize ?? 0) > 0
    if (isWaiting && socket.bytesWritten === before) socket.destroy()
    before = isWaiting ? socket.bytesWritten : undefined
  }, LEAVE_MS).unref()
  // Not now: in the middle of the writes of its streams, Node 20 has corrupted its own memory.
  setImmediate(() => {
    if (session.destroyed) return
    session.goaway()
    closeWhenSent(session)
  })
}

/** How long to wait until GOAWAY may have left, in milliseconds. */
const SENT_MS = 20

/**
 * A session that is closed refuses new requests. While its GOAWAY waits for the socket, a request may still come in,
 * and refusing that one frees a stream that Node goes on to use (nodejs/node#64113): the process may crash.
 */
function closeWhenSent(session: Http2Session): void {
  if (session.closed || session.destroyed) return
  if ((session.state.outboundQueueSize ?? 0) === 0) session.close()
  else setTimeout(closeWhenSent, SENT_MS, session).unref()
}
