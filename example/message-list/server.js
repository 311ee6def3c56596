// @ts-check
import { randomInt, randomUUID } from 'node:crypto'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import { closeAll, listen, runIfMain, servePage } from '../shared/serve.js'

const TEXTS = [
  'The ferry leaves at nine.',
  'Somebody left an umbrella in the hall.',
  'The bakery has the dark bread again.',
  'Rain from the west by noon.',
  'The piano is being tuned on Friday.',
]

/** Two servers: the page and its session on one origin, the events on another. */
export async function start({
  port = 0,
  host = '127.0.0.1',
  everyMs = 1000, // between two messages
  retryMs = 2000, // until a browser comes back after a cut
  kept = 10, // events that the log keeps for those who are away
} = {}) {
  // What signs the cookies. In your app from the configuration, or a restart signs everyone out.
  const keys = [randomUUID()]
  const pool = new ClientPool({ window: { events: kept } })
  /** @type {{ n: number, text: string }[]} What a page fetches when the log cannot help it. */
  const messages = []

  // ---- The site: the page, and the session

  const site = new Koa({ keys })
  const pages = new Router()
  pages.get('/', (ctx, next) => {
    if (!userOf(ctx)) ctx.cookies.set('user', `reader-${randomInt(1e6)}`, { sameSite: 'lax' })
    return next()
  })
  pages.get('/session', ctx => {
    // The same host name: cookies know no ports, and go to both origins.
    ctx.body = { user: userOf(ctx), events: `http://${ctx.hostname}:${events.port}` }
  })
  pages.get('/messages', ctx => {
    ctx.body = messages
  })
  // By way of the log: a page that is away at this moment is told when it comes back.
  pages.post('/end', async ctx => {
    await pool.remove(userOf(ctx) ?? ctx.throw(401), 'The server has ended the stream.')
    ctx.status = 204
  })
  servePage(pages, import.meta.url)
  const main = await listen(site.use(pages.routes()).use(pages.allowedMethods()), port, host)

  // ---- The events: another origin, so the browser asks whether the page may read them

  const push = new Koa({ keys })
  const streams = new Router()
  const options = {
    pool,
    // Exact origins; all others get 403, before they take a place in the pool.
    allowedOrigins: ['localhost', '127.0.0.1'].map(name => `http://${name}:${main.port}`),
    // The session says who it is. A browser sends the cookie because of `withCredentials`.
    id: ctx => userOf(ctx) ?? ctx.throw(401, 'no session'),
    closeEvent: 'end',
    retry: retryMs,
  }
  streams.get('/events', sse(options), ctx => {
    // What was missed comes first, so this event also tells the page that it is up to date.
    ctx.sse.send({ event: 'hi', data: { user: ctx.sse.id } })
  })
  const events = await listen(push.use(streams.routes()), port && port + 1, host)

  // ---- Messages to everybody, and after each third one an update

  function say(text) {
    const n = messages.push({ n: messages.length + 1, text })
    pool.broadcast({ data: { n, text } })
    // Of all the updates that wait for somebody, only the newest is worth sending: they have a key.
    if (n % 3 === 0) pool.broadcast({ event: 'update', data: { messages: n }, key: 'messages' })
  }
  const timer = setInterval(() => say(TEXTS[messages.length % TEXTS.length]), everyMs)

  async function close() {
    clearInterval(timer)
    await closeAll([pool], [main.server, events.server])
  }
  return { port: main.port, events, pool, say, close }
}

/** @param {import('koa').Context} ctx @returns {string | undefined} */
function userOf(ctx) {
  return ctx.cookies.get('user', { signed: true })
}

runIfMain(import.meta.url, start)
