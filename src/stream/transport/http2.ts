/** HTTP/2 (RFC 9113), through Node's compatibility API, which Koa uses. */
import { constants, type Http2ServerResponse } from 'node:http2'
import type { Server } from 'node:net'
import type { Transport } from './transport.js'

export const http2: Transport<Http2ServerResponse> = {
  open(res, headers, first) {
    res.setTimeout(0)
    res.writeHead(200, headers)
    res.write(first.plain)
  },

  write(res, chunk) {
    // The app has ended it: a write would reset the stream, which WebKit never notices.
    if (res.writableEnded) return true
    return res.write(chunk.plain)
  },

  bufferedBytes(res) {
    return res.writableLength
  },

  onceDrained(res, listener) {
    res.once('drain', listener)
  },

  end(res) {
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

  server(res) {
    return (res.stream?.session?.socket as { server?: Server } | undefined)?.server
  },
}
