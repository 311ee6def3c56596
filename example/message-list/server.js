// @ts-check
import { randomInt, randomUUID } from 'node:crypto'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from 'koa-sse-pool'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { openStorage } from '../shared/storage.js'

const TEXTS = [
  'The ferry leaves at nine.',
  'Somebody left an umbrella in the hall.',
  'The bakery has the dark bread again.',
  'Rain from the west by noon.',
  'The piano is being tuned on Friday.',
]

/** How many messages are kept for pages that got a gap. */
const MESSAGES = 1000

/** Starts two servers: the page and its session on one origin, the events on another. */
export async function start({
  port = 0,
  host = '127.0.0.1',
  everyMs = 1000, // between two messages
  retryMs = 2000, // until a browser reconnects after a cut
  pingMs = 15_000, // between two heartbeats
  kept = 10, // events that the log keeps for disconnected clients
  file = /** @type {string | undefined} */ (undefined), // where all of it is kept; by default in memory
} = {}) {
  const storage = openStorage(file)
  // Signs the cookies. In your app it is part of the configuration. A new one at each start would sign everyone out.
  const settings = storage.table('settings')
  if (!settings.get('key')) settings.set('key', randomUUID())
  const keys = [settings.get('key')]
  const log = storage.log({ maxEntries: kept })
  const pool = new ClientPool({ window: { events: kept }, pingInterval: pingMs, log })
  /** @type {import('../shared/storage.js').Table<{ n: number, text: string }>} The state, which a page fetches after a gap. */
  const messages = storage.table('messages')
  let newest = [...messages.values()].at(-1)?.n ?? 0

  // ---- The site: the page, and the session

  const site = new Koa({ keys })
  const pages = new Router()
  pages.get('/', (ctx, next) => {
    if (!userOf(ctx)) ctx.cookies.set('user', `reader-${randomInt(1e6)}`, { sameSite: 'lax' })
    return next()
  })
  pages.get('/session', ctx => {
    ctx.body = {
      user: userOf(ctx),
      // The same host name: cookies ignore ports, so the browser sends them to both origins.
      events: `http://${ctx.hostname}:${events.port}`,
      // After this many seconds away, the log has lost some of the messages.
      logSeconds: Math.ceil((kept * everyMs) / 1000),
    }
  })
  pages.get('/messages', ctx => {
    ctx.body = [...messages.values()]
  })
  // Goes through the log: a page that is disconnected right now learns of it when it reconnects.
  pages.post('/end', async ctx => {
    await pool.remove(userOf(ctx) ?? ctx.throw(401), 'The server has ended the stream.')
    ctx.status = 204
  })
  servePage(pages, import.meta.url)
  const main = await listen(site.use(pages.routes()).use(pages.allowedMethods()), port, host)

  // ---- The events: another origin, so the browser checks whether the page may read them

  const push = new Koa({ keys })
  const streams = new Router()
  const options = {
    pool,
    // Exact origins. All others get 403 before they take a place in the pool.
    allowedOrigins: ['localhost', '127.0.0.1'].map(name => `http://${name}:${main.port}`),
    // The user comes from the session. The browser sends its cookie because of `withCredentials`.
    id: ctx => userOf(ctx) ?? ctx.throw(401, 'no session'),
    closeEvent: 'end',
    retry: retryMs,
  }
  streams.get('/events', sse(options), ctx => {
    // Arrives after the replay, so it also tells the page that it is up to date.
    ctx.sse.send({ event: 'hi', data: { user: ctx.sse.id } })
  })
  const events = await listen(push.use(streams.routes()), port && port + 1, host)

  // ---- Broadcasts every message, and an update after every third

  function say(text) {
    newest += 1
    const n = newest
    // In one transaction: killed between the two, a message would be in the list and never reach a page.
    storage.transact(transaction => {
      messages.set(String(n), { n, text })
      messages.delete(String(n - MESSAGES))
      pool.broadcast({ data: { n, text } }, { transaction })
    })
    // With a key, a client that has several updates pending gets only the newest.
    if (n % 3 === 0) pool.broadcast({ event: 'update', data: { messages: n }, key: 'messages' })
  }
  // Resolves when the log has its tables, which a transaction needs.
  await pool.broadcast({ event: 'update', data: { messages: newest }, key: 'messages' })
  const timer = setInterval(() => say(TEXTS[newest % TEXTS.length]), everyMs)

  async function close() {
    clearInterval(timer)
    await closeGracefully([main.server, events.server], pool, { spread: 500 })
    storage.close()
  }
  return { port: main.port, events, pool, say, close }
}

/** @param {import('koa').Context} ctx @returns {string | undefined} */
function userOf(ctx) {
  return ctx.cookies.get('user', { signed: true })
}

runIfMain(import.meta.url, start)
