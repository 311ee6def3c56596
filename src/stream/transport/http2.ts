/** HTTP/2 (RFC 9113), through Node's compatibility API, which Koa uses. */
import { constants, type Http2ServerResponse, type Http2Session } from 'node:http2'
import type { Server } from 'node:net'
import type { Transport } from './transport.js'

export const http2: Transport<Http2ServerResponse> = {
  onceGone(res, listener) {
    res.on('close', listener)
    const { stream } = res
    stream.once('aborted', () => {
      listener.call(res)
      // After a reset without an error Node waits for the end of what was written, which never comes.
      setImmediate(() => stream.destroy())
    })
  },

  open(res, headers, first) {
    res.setTimeout(0)
    res.writeHead(200, headers)
    res.write(first.plain)
  },

  write(res, chunk) {
    // The app has ended it: a write would reset the stream, which WebKit never notices. Or the client
    // has reset it, and Node has not said so yet: a write would be an error in the app's log.
    if (res.writableEnded || !res.stream?.writable) return true
    return res.write(chunk.plain)
  },

  bufferedBytes(res) {
    return res.writableLength
  },

  onceDrained(res, listener) {
    res.once('drain', listener)
  },

  setTimeout(res, milliseconds) {
    res.setTimeout(milliseconds)
    return true
  },

  end(res, isLast) {
    const session = res.stream?.session
    if (session && (isLast || http2.server(res)?.listening === false)) leave(session)
    res.end()
  },

  cut(res) {
    // A reset would show the failure, but WebKit never notices one and would wait for ever.
    res.end()
  },

  destroy(res) {
    // A clean end would wait behind the flow control window that the client does not open.
    res.stream?.close(constants.NGHTTP2_CANCEL)
  },

  leave({ stream }) {
    if (stream?.session) leave(stream.session)
  },

  server(res) {
    return (res.stream?.session?.socket as { server?: Server } | undefined)?.server
  },
}

/** How long a session that is to close may stay without any activity, in milliseconds. */
const IDLE_MS = 10_000

const leaving = new WeakSet<Http2Session>()

/**
 * Tells the client to use another connection for its next requests (GOAWAY, RFC 9113, 6.8). The session
 * closes when its last stream has.
 */
function leave(session: Http2Session): void {
  if (session.closed || leaving.has(session)) return
  leaving.add(session)
  // Not now: in the middle of the writes of its streams, Node 20 has corrupted its own memory.
  setImmediate(() => {
    session.close()
    // A client that does not read would keep it open for ever.
    session.setTimeout(IDLE_MS, () => session.destroy())
  })
}
