// @ts-check
// better-sse under Koa, with its own channels.
import { createServer } from 'node:http'
import { createChannel, createSession } from 'better-sse'
import Koa from 'koa'
import { host, settings } from '../parts/host.js'

const everyone = createChannel()
/** @type {Map<string, import('better-sse').Channel>} */
const channels = new Map()
/** @type {Map<string, import('better-sse').Session>} */
const sessions = new Map()

const app = new Koa()
app.use(async ctx => {
  ctx.respond = false
  ctx.status = 200
  const id = String(ctx.query.id)
  const session = await createSession(ctx.req, ctx.res, { keepAlive: settings.ping || null })
  everyone.register(session)
  if (settings.channels) channelOf(String(ctx.query.channel)).register(session)
  sessions.set(id, session)
  session.on('disconnected', () => sessions.delete(id))
})

/** @param {string} name */
function channelOf(name) {
  const channel = channels.get(name) ?? createChannel()
  channels.set(name, channel)
  return channel
}

host({
  server: createServer(app.callback()),
  broadcast: ({ id, event, data }) => {
    everyone.broadcast(data, event, { eventId: id })
  },
  send: (client, { id, event, data }) => {
    sessions.get(client)?.push(data, event, id)
  },
  sendToChannel(name, { id, event, data }) {
    channels.get(name)?.broadcast(data, event, { eventId: id })
  },
})
