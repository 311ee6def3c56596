// @ts-check
// koa-sse-stream has no broadcast, so this keeps a Map of `ctx.sse`, as in its readme. JSON is encoded once.
import { createServer } from 'node:http'
import Koa from 'koa'
import sse from 'koa-sse-stream'
import { Groups } from '../parts/groups.js'
import { host, settings } from '../parts/host.js'

/** @type {Map<string, any>} */
const streams = new Map()
/** @type {Groups<any>} */
const channels = new Groups()

const app = new Koa()
app.use(sse({ maxClients: 100_000, pingInterval: settings.ping || 600_000 }))
app.use((/** @type {any} */ ctx) => {
  const id = String(ctx.query.id)
  const channel = String(ctx.query.channel)
  streams.set(id, ctx.sse)
  if (settings.channels) channels.add(channel, ctx.sse)
  ctx.sse.on('close', () => {
    streams.delete(id)
    channels.delete(channel, ctx.sse)
  })
})

host({
  server: createServer(app.callback()),
  broadcast({ id, event, data }) {
    const message = { id, event, data: JSON.stringify(data) }
    for (const stream of streams.values()) stream.send(message)
  },
  send: (client, { id, event, data }) =>
    streams.get(client)?.send({ id, event, data: JSON.stringify(data) }),
  sendToChannel(name, { id, event, data }) {
    const message = { id, event, data: JSON.stringify(data) }
    for (const stream of channels.of(name)) stream.send(message)
  },
})
