// @ts-check
// better-sse under Koa, with its own channel for the broadcast.
import { createServer } from 'node:http'
import { createChannel, createSession } from 'better-sse'
import Koa from 'koa'
import { host } from '../parts/host.js'

const channel = createChannel()
/** @type {Map<string, import('better-sse').Session>} */
const sessions = new Map()

const app = new Koa()
app.use(async ctx => {
  ctx.respond = false
  ctx.status = 200
  const id = String(ctx.query.id)
  const session = await createSession(ctx.req, ctx.res, { keepAlive: null })
  channel.register(session)
  sessions.set(id, session)
  session.on('disconnected', () => sessions.delete(id))
})

host({
  server: createServer(app.callback()),
  broadcast: ({ id, event, data }) => {
    channel.broadcast(data, event, { eventId: id })
  },
  send: (client, { id, event, data }) => {
    sessions.get(client)?.push(data, event, id)
  },
})
