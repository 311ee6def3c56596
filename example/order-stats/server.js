// @ts-check
import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from 'koa-sse-pool'
import { streamTickets } from 'koa-sse-pool/tickets'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { openDatabase, SEED } from './database.js'
import { openSessions } from './sign-in.js'

/** In cents. On the server, so that a page cannot choose its own price. */
const PRICES = { cup: 1200, teapot: 4800, kettle: 6500, 'tea, a tin': 900 }

export async function start({
  port = 0,
  host = '127.0.0.1',
  databaseUrl = process.env.DATABASE_URL, // any PostgreSQL; by default the example starts one
  seed = SEED, // orders per month, if the database has none yet
  pingMs = 15_000, // between heartbeats, which also check the sign-ins
  ticketMs = 30_000, // how long a ticket can be redeemed
  resumeMs = /** @type {number | false} */ (3_600_000), // how long a browser can reconnect with it
  retryMs = 2000, // until a browser reconnects after a cut
  kept = 10_000, // events in the log, for replay
  onRefused = why => console.warn(`a ticket was refused: ${why}`),
} = {}) {
  const db = await openDatabase(databaseUrl, seed, kept)
  const sessions = await openSessions()
  // In your app, read it from the configuration: it must be the same in all processes.
  const secret = randomBytes(32).toString('base64url')
  const app = new Koa({ keys: [secret] })
  const router = new Router()

  // ---- The stream, and the ticket for it

  const pool = new ClientPool({
    log: db.log,
    pingInterval: pingMs,
    window: { events: kept },
    // Checked at each heartbeat, so that an open stream ends soon after its user has signed out.
    authorize: ({ id }) => sessions.mayView(id),
  })
  const tickets = streamTickets({
    pool,
    secret,
    ttl: ticketMs,
    resumeFor: resumeMs,
    // Without this, a client that the pool has cut off would reconnect a moment later.
    authorize: id => sessions.mayView(id),
    // The reason for a 401 goes to the server's log, never to the client.
    onRefused,
  })

  router.post('/event/ticket', async ctx => {
    const { id, mayView } = sessions.sessionOf(ctx) ?? ctx.throw(401)
    if (!mayView) return ctx.throw(403)
    ctx.set('Cache-Control', 'no-store')
    const origin = ctx.get('Origin') || undefined // pages of other origins cannot use it
    ctx.body = { ticket: await tickets.issue({ id, channels: ['stats'], origin }) }
  })

  router.get('/event/stats', sse({ pool, retry: retryMs, ...tickets.redeem() }), async ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
    // The log replays what a reconnecting page has missed; `ready` tells it that the replay is over.
    if (ctx.sse.lastEventId) ctx.sse.send({ event: 'ready', data: '' })
    else await sendSnapshot(ctx.sse)
  })
  pool.on('error', error => app.emit('error', error))
  // The client was away for longer than the log reaches back, or is too slow for it.
  pool.on('gap', stream => {
    sendSnapshot(stream).catch(error => app.emit('error', error))
  })

  /**
   * Sent to this stream only. The stream joined the channel before the counts are read, so no change is
   * missed between the two. A change that arrives both ways has the same version, and the page drops it.
   */
  async function sendSnapshot(stream) {
    stream.send({ event: 'snapshot', data: { months: await db.readMonths() } })
  }

  // ---- The shop: anyone may order

  router.post('/orders', async ctx => {
    const { product, day } = orderOf(ctx)
    const cents = PRICES[product]
    // In the order's transaction: the event is delivered after the COMMIT and never after a rollback. Sent
    // after it instead, the event would be lost if this process ended between the two.
    const { id } = await db.placeOrder({ product, cents, day }, ({ id, month }, transaction) => {
      const event = { event: 'order', data: { id, product, month } }
      return pool.channel('stats').send(event, { transaction })
    })
    ctx.status = 201
    ctx.body = { id, product, day }
  })

  function orderOf(ctx) {
    const today = new Date().toISOString().slice(0, 10)
    const { product, day = today } = ctx.request.body ?? {}
    if (!Object.hasOwn(PRICES, product)) return ctx.throw(400, 'no such product')
    // The demo accepts orders of earlier days, so that more than one bar moves.
    // Compared as text, because `new Date` turns the 30th of February into the 2nd of March.
    const isDay = day <= today && new Date(day).toJSON()?.slice(0, 10) === day
    if (!isDay) return ctx.throw(400, 'no such day')
    return { product, day }
  }

  // ---- Signing in

  router.post('/session', async ctx => {
    const { name } = await sessions.signIn(ctx)
    ctx.body = { name }
  })
  router.get('/session', ctx => {
    const session = sessions.sessionOf(ctx)
    ctx.body = session ? { name: session.name } : null // 204
  })
  router.delete('/session', ctx => {
    sessions.signOut(ctx)
    ctx.status = 204
  })

  // Only for the demo: simulates a lost connection.
  router.post('/cut', ctx => {
    const { id } = sessions.sessionOf(ctx) ?? ctx.throw(401)
    for (const { state } of pool.get(id)?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  // The build of Chart.js in one file, because the page has no bundler.
  const chart = new URL('chart.umd.min.js', import.meta.resolve('chart.js'))
  servePage(router, import.meta.url, {
    '/chart.js': new URL('public/chart.js', import.meta.url),
    '/lib/chart.js': chart,
  })
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  const site = await listen(app, port, host)

  async function close() {
    await closeGracefully(site.server, pool, { spread: 500 })
    await db.close()
  }
  return { ...site, pool, db, sessions, close }
}

runIfMain(import.meta.url, start)
