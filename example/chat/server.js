// @ts-check
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from 'koa-sse-pool'
import { Presence } from 'koa-sse-pool/presence'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { openStorage } from '../shared/storage.js'

const ROOMS = ['general', 'help', 'random']
/** How many messages and other events a page that opens can get. */
const WINDOW = { events: 500 }

export async function start({
  port = 0,
  host = '127.0.0.1',
  graceMs = 5000, // until a member whose last tab has closed leaves
  leaseMs = 20_000, // until the members of a killed process leave
  file = /** @type {string | undefined} */ (undefined), // where the messages are kept; by default in memory
} = {}) {
  const app = new Koa().use(bodyParser())
  const storage = openStorage(file)
  const log = (await sharedLog()) ?? storage.log({ maxEntries: WINDOW.events })
  const pool = new ClientPool({ window: WINDOW, log })
  const presence = new Presence({ pool, grace: graceMs, lease: leaseMs })
  pool.on('error', error => app.emit('error', error))
  const router = new Router()

  // ---- The stream of a page: the messages of all rooms, and who is in the one that it shows

  const events = sse({
    pool,
    // In your app, the id comes from the session. Here everyone can be anyone.
    identify: ctx => {
      const { me } = checked(ctx, ctx.query)
      return { id: me, channels: ROOMS }
    },
    // A page that opens gets the messages that the window has.
    replay: 'all',
  })
  router.get('/events', events, ctx => {
    const { room = '', tab = '', name = '' } = /** @type {Record<string, string>} */ (ctx.query)
    // The tab has changed the room. Its old stream may still be open, and would otherwise stay for the grace period.
    for (const stream of ctx.sse.client.streams) {
      const old = stream.state
      if (old.tab === tab && old.room !== room) presence.untrack(stream, String(old.room))
    }
    ctx.sse.state = { tab, room }
    presence.track(ctx.sse, room, { name })
  })

  // ---- What a page sends

  router.post('/messages', async ctx => {
    const { me, name, room, id, text } = checked(ctx, ctx.request.body)
    const isText = typeof text === 'string' && text.trim() !== '' && text.length <= 500
    if (!isText || !isId(id)) return ctx.throw(400)
    const data = { id, room, from: me, name, text, at: Date.now() }
    await pool.channel(room).send({ event: 'message', data })
    ctx.status = 202
  })

  router.post('/typing', async ctx => {
    const { me, name, room } = checked(ctx, ctx.request.body)
    // Nobody needs to know later: it is not replayed, and a page that misses it gets no gap.
    const event = { event: 'typing', key: `typing ${me}`, data: { room, from: me, name } }
    await pool.channel(room).send({ ...event, volatile: true }, { except: me })
    ctx.status = 202
  })

  servePage(router, import.meta.url)
  const site = await listen(app.use(router.routes()).use(router.allowedMethods()), port, host)
  async function close() {
    // Closing the pool also lets the members move to another process.
    await closeGracefully(site.server, pool, { spread: 500 })
    storage.close()
  }
  return { ...site, pool, presence, close }
}

/**
 * What a page sends, if it says who it is and in which room.
 *
 * @param {import('koa').Context} ctx
 * @param {any} values
 */
function checked(ctx, values) {
  if (!isId(values?.me) || !isName(values.name) || !ROOMS.includes(values.room)) ctx.throw(400)
  return values
}

/** @param {unknown} id */
function isId(id) {
  return typeof id === 'string' && /^\w{1,64}$/.test(id)
}

/** @param {unknown} name */
function isName(name) {
  return typeof name === 'string' && name.trim() !== '' && name.length <= 30
}

/** With REDIS_URL, the processes of the chat share the log in Redis; without, those that have the same file. */
async function sharedLog() {
  const { REDIS_URL: url } = process.env
  if (!url) return undefined
  const { createClient } = await import('redis')
  const { redisLog } = await import('koa-sse-pool/redis')
  return redisLog({ client: createClient({ url }), key: 'koa-sse-pool:chat' })
}

runIfMain(import.meta.url, start)
