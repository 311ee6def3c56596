// @ts-check
// Hand-written SSE in Koa with a gzip stream for each response, which is flushed after each event, as compressing
// middleware does.
import { createServer } from 'node:http'
import { constants, createGzip } from 'node:zlib'
import Koa from 'koa'
import { frameOf } from '../parts/event.js'
import { host } from '../parts/host.js'

/** @type {Map<string, import('node:zlib').Gzip>} */
const streams = new Map()

const app = new Koa()
app.use(ctx => {
  const { res } = ctx
  const id = String(ctx.query.id)
  ctx.respond = false
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache',
    'Content-Encoding': 'gzip',
  })
  const gzip = createGzip({ flush: constants.Z_SYNC_FLUSH })
  gzip.pipe(res)
  gzip.write(':ok\n\n')
  streams.set(id, gzip)
  res.on('close', () => {
    streams.delete(id)
    gzip.destroy()
  })
})

host({
  server: createServer(app.callback()),
  broadcast(event) {
    const frame = Buffer.from(frameOf(event))
    for (const stream of streams.values()) stream.write(frame)
  },
})
