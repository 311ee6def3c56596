// @ts-check
// koa-sse-pool as built, with all defaults except the limit on streams and the heartbeat.
import { createServer } from 'node:http'
import Koa from 'koa'
import { host, settings } from '../parts/host.js'
import { http2Server } from '../parts/http2-server.js'

const { ClientPool, sse } = await import(settings.build ?? '../../dist/index.js')

const pool = new ClientPool({
  maxClients: 100_000,
  pingInterval: settings.ping || 600_000,
  ...settings.pool,
})
settings.observe?.(pool)
const app = new Koa()
app.use(
  sse({
    pool,
    id: ctx => ctx.query.id,
    ...settings.route,
    ...(settings.channels && { channels: ctx => [String(ctx.query.channel)] }),
  }),
)

host({
  server: settings.isHttp2
    ? http2Server(settings.tls, app.callback())
    : createServer(app.callback()),
  // Not awaited, as in an app: all entries of one turn go out together.
  broadcast({ event, data }) {
    pool.broadcast({ event, data })
  },
  send(id, { event, data }) {
    pool.send(id, { event, data })
  },
  sendToChannel(name, { event, data }) {
    pool.channel(name).send({ event, data })
  },
  replays: true,
})
