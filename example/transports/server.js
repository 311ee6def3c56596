// @ts-check
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from 'koa-sse-pool'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { meter } from './meter.js'
import { serveSockets } from './socket.js'

const file = name => new URL(name, import.meta.url)

const SCRIPTS = ['panel', 'plot', 'polling', 'long-polling', 'websocket', 'sse', 'pool-client']
const BY_HAND = {
  polling: ['public/polling.js'],
  longPolling: ['public/long-polling.js'],
  webSocket: ['public/websocket.js', 'socket.js'],
  sse: ['public/sse.js'],
  client: ['public/pool-client.js'],
}
/** The number of outages that the page is told about. */
const OUTAGES = 10

export async function start({
  port = 0,
  host = '127.0.0.1',
  everyMs = 250, // between two readings
  burst = 60, // readings in a burst
  pollMs = 2000, // between two polls
  latest = 10, // readings in a poll's answer: those of two seconds, plus two
  retryMs = 1000, // until a page reconnects after a cut
  offlineMs = 5000,
  pingMs = 15_000,
  figuresMs = 500, // between two requests for the figures
} = {}) {
  const pool = new ClientPool()
  const router = new Router()

  // ---- One feed

  /** @type {{ n: number, at: number, value: number }[]} For polling; the pool has its own log. */
  const newest = []
  let n = 0
  let newestId = ''

  async function tell(times = 1) {
    for (let i = 0; i < times; i++) {
      n += 1
      const reading = { n, at: Date.now(), value: Math.round(500 + 400 * Math.sin(n / 9)) }
      newest.push(reading)
      if (newest.length > latest) newest.shift()
      pool.broadcast({ data: reading }).then(id => {
        newestId = id
      })
    }
  }
  await tell()
  const timer = setInterval(tell, everyMs)

  // ---- The ways to read it, except for one: WebSocket is in socket.js

  // SSE and long polling: a stream for text/event-stream, JSON for application/json.
  router.get('/events', sse({ pool, longPoll: true, retry: retryMs }))

  router.get('/latest', ctx => {
    ctx.set('Cache-Control', 'no-store')
    ctx.body = newest
  })

  // ---- Settings and figures for the page

  const run = randomUUID()
  const settings = { run, everyMs, burst, pollMs, latest, retryMs, offlineMs, figuresMs }
  const lines = Object.fromEntries(
    Object.entries(BY_HAND).map(([name, files]) => [name, files.reduce(addLines, 0)]),
  )
  router.get('/settings', ctx => {
    ctx.set('Cache-Control', 'no-store')
    ctx.body = { ...settings, lines }
  })
  router.get('/figures', ctx => {
    ctx.set('Cache-Control', 'no-store')
    ctx.body = { run, now: Date.now(), outages, costs: costs.costsOf(String(ctx.query.page)) }
  })

  // ---- Simulated failures

  /** @type {{ from: number, to: number }[]} */
  const outages = []
  let isOffline = false
  /** @type {NodeJS.Timeout | undefined} */
  let back

  /** Cuts all connections, and accepts no new ones for that time. */
  function goOffline(ms = 0) {
    const from = Date.now()
    outages.push({ from, to: from + ms })
    if (outages.length > OUTAGES) outages.shift()
    costs.cut()
    if (ms === 0) return
    isOffline = true
    clearTimeout(back)
    back = setTimeout(() => {
      isOffline = false
    }, ms)
  }
  // Waits until the answer has been sent, or it would be cut off too.
  router.post('/cut', ctx => {
    ctx.status = 204
    ctx.res.once('finish', () => goOffline())
  })
  router.post('/offline', ctx => {
    ctx.status = 204
    ctx.res.once('finish', () => goOffline(offlineMs))
  })
  router.post('/burst', ctx => {
    ctx.status = 204
    tell(burst)
  })

  servePage(
    router,
    import.meta.url,
    Object.fromEntries(SCRIPTS.map(name => [`/${name}.js`, file(`public/${name}.js`)])),
  )
  const app = new Koa()
  app.use(router.routes()).use(router.allowedMethods())
  const site = await listen(app, port, host)
  site.server.on('connection', socket => {
    if (isOffline) socket.destroy()
  })
  const costs = meter(site.server, whose)
  const sockets = serveSockets(site.server, pool, { newestId: () => newestId, pingMs })

  async function close() {
    clearInterval(timer)
    clearTimeout(back)
    await closeGracefully(site.server, pool, { spread: 500 })
    for (const ws of sockets.clients) ws.terminate()
  }
  return { ...site, pool, sockets, tell, cut: () => goOffline(), costsOf: costs.costsOf, close }
}

/** @param {import('node:http').IncomingMessage} req */
function whose({ url = '/', headers }) {
  // Not from a page: Node accepts the path `//`, which is not a valid URL.
  if (!URL.canParse(url, 'http://localhost')) return undefined
  const { pathname, searchParams } = new URL(url, 'http://localhost')
  const page = searchParams.get('page')
  const stream = searchParams.get('by') === 'client' ? 'client' : 'sse'
  const transport = {
    '/latest': 'polling',
    '/socket': 'webSocket',
    '/events': headers.accept === 'application/json' ? 'longPolling' : stream,
  }[pathname]
  return page === null || transport === undefined ? undefined : { page, transport }
}

/** Counts lines of code, without comments and empty lines. */
function addLines(sum, name) {
  const text = readFileSync(file(name), 'utf8').replaceAll(/\/\*.*?\*\//gs, '')
  const code = text.split('\n').filter(line => line.trim() !== '' && !/^\s*\/\//.test(line))
  return sum + code.length
}

runIfMain(import.meta.url, start)
