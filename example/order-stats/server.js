// @ts-check
import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import { streamTickets } from 'koa-sse-pool/tickets'
import { closeAll, listen, runIfMain, servePage } from '../shared/serve.js'
import { openDatabase, SEED } from './database.js'
import { openSessions } from './sign-in.js'

/** In cents. The shop knows the prices, not the page. */
const PRICES = { cup: 1200, teapot: 4800, kettle: 6500, 'tea, a tin': 900 }

export async function start({
  port = 0,
  host = '127.0.0.1',
  databaseUrl = process.env.DATABASE_URL, // any PostgreSQL; by default one is started
  seed = SEED, // orders a month, if there are none yet
  pingMs = 15_000, // between heartbeats, at which sign-ins are looked at
  ticketMs = 30_000, // in which a ticket can be redeemed
  resumeMs = /** @type {number | false} */ (3_600_000), // for which a browser can come back with it
  retryMs = 2000, // until a browser comes back after a cut
  kept = 10_000, // events that the log keeps
  onRefused = why => console.warn(`a ticket was refused: ${why}`),
} = {}) {
  const db = await openDatabase(databaseUrl, seed)
  const sessions = await openSessions()
  // In your app from the configuration, and the same in all processes.
  const secret = randomBytes(32).toString('base64url')
  const app = new Koa({ keys: [secret] })
  const router = new Router()

  // ---- The stream, and the ticket for it

  const pool = new ClientPool({
    pingInterval: pingMs,
    window: { events: kept },
    // An open stream asks for nothing again: who is signed out loses it at the next heartbeat.
    authorize: ({ id }) => sessions.mayView(id),
  })
  const tickets = streamTickets({
    pool,
    secret,
    ttl: ticketMs,
    resumeFor: resumeMs,
    // Who was cut off by the pool would otherwise come back a moment later.
    authorize: id => sessions.mayView(id),
    // Why there was a 401: for the server's log, never for the answer.
    onRefused,
  })

  router.post('/event/ticket', async ctx => {
    const { id, mayView } = sessions.sessionOf(ctx) ?? ctx.throw(401)
    if (!mayView) return ctx.throw(403)
    ctx.set('Cache-Control', 'no-store')
    const origin = ctx.get('Origin') || undefined // no other page can use it
    ctx.body = { ticket: await tickets.issue({ id, channels: ['stats'], origin }) }
  })

  router.get('/event/stats', sse({ pool, retry: retryMs, ...tickets.redeem() }), async ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
    // Who comes back gets what it missed, from the log; this says that it was all.
    if (ctx.sse.lastEventId) ctx.sse.send({ event: 'ready', data: '' })
    else await sendSnapshot(ctx.sse)
  })
  pool.on('error', error => app.emit('error', error))
  // Away for longer than the log goes back, or a reader too slow for it.
  pool.on('gap', stream => {
    sendSnapshot(stream).catch(error => app.emit('error', error))
  })

  /**
   * To this stream alone. It has joined the channel before the counts are read, so that no change can
   * fall between the two; a change that comes by both ways has the same version, and the page drops it.
   */
  async function sendSnapshot(stream) {
    stream.send({ event: 'snapshot', data: { months: await db.readMonths() } })
  }

  // ---- The shop: anybody may order

  router.post('/orders', async ctx => {
    const { product, day } = orderOf(ctx)
    const cents = PRICES[product]
    const { id, month } = await db.placeOrder({ product, cents, day })
    // After the COMMIT: nobody is told of an order that does not come to be. And not awaited: the order
    // stands, whether or not the log took this.
    pool.channel('stats').send({ event: 'order', data: { id, product, month } })
    ctx.status = 201
    ctx.body = { id, product, day }
  })

  function orderOf(ctx) {
    const today = new Date().toISOString().slice(0, 10)
    const { product, day = today } = ctx.request.body ?? {}
    if (!Object.hasOwn(PRICES, product)) return ctx.throw(400, 'no such product')
    // For the demo an order may be of an earlier day, so that more than one bar moves.
    // `new Date` would make the 2nd of March of the 30th of February.
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

  // Only for the demo: as if the network went away.
  router.post('/cut', ctx => {
    const { id } = sessions.sessionOf(ctx) ?? ctx.throw(401)
    for (const { state } of pool.get(id)?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  // One file, as the page has no bundler.
  const chart = new URL('chart.umd.min.js', import.meta.resolve('chart.js'))
  servePage(router, import.meta.url, {
    '/chart.js': new URL('public/chart.js', import.meta.url),
    '/lib/chart.js': chart,
  })
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  const site = await listen(app, port, host)

  async function close() {
    await closeAll([pool], [site.server])
    await db.close()
  }
  return { ...site, pool, db, sessions, close }
}

runIfMain(import.meta.url, start)
