// @ts-check
// Bare `node:http2`: the lower bound for HTTP/2 on Node. One Buffer for every stream. Over TLS with `tls`.

import { frameOf } from '../parts/event.js'
import { host, settings } from '../parts/host.js'
import { http2Server } from '../parts/http2-server.js'

/** @type {Set<import('node:http2').ServerHttp2Stream>} */
const streams = new Set()

const server = http2Server(settings.tls)
server.on('stream', stream => {
  stream.on('error', () => {})
  stream.on('close', () => streams.delete(stream))
  stream.respond({ ':status': 200, 'content-type': 'text/event-stream' })
  stream.write(':ok\n\n')
  streams.add(stream)
})

host({
  server,
  broadcast(event) {
    const frame = Buffer.from(frameOf(event))
    for (const stream of streams) stream.write(frame)
  },
})
