// @ts-check
// Hand-written SSE in Koa: the frame is built once, then `res.write` for each response.
import { createServer } from 'node:http'
import Koa from 'koa'
import { frameOf } from '../parts/event.js'
import { Groups } from '../parts/groups.js'
import { host, settings } from '../parts/host.js'

/** @type {Map<string, import('node:http').ServerResponse>} */
const responses = new Map()
/** @type {Groups<import('node:http').ServerResponse>} */
const channels = new Groups()

const app = new Koa()
app.use(ctx => {
  const { res } = ctx
  const id = String(ctx.query.id)
  const channel = String(ctx.query.channel)
  ctx.respond = false
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
  res.write(':ok\n\n')
  responses.set(id, res)
  if (settings.channels) channels.add(channel, res)
  res.on('close', () => {
    responses.delete(id)
    channels.delete(channel, res)
  })
})

const HEARTBEAT = Buffer.from(':\n\n')
if (settings.ping > 0) {
  setInterval(() => {
    for (const res of responses.values()) res.write(HEARTBEAT)
  }, settings.ping)
}

host({
  server: createServer(app.callback()),
  broadcast(event) {
    const frame = Buffer.from(frameOf(event))
    for (const res of responses.values()) res.write(frame)
  },
  send: (id, event) => responses.get(id)?.write(frameOf(event)),
  sendToChannel(name, event) {
    const frame = Buffer.from(frameOf(event))
    for (const res of channels.of(name)) res.write(frame)
  },
})
