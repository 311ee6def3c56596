// @ts-check
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from 'koa-sse-pool'
import { listen, runIfMain, servePage } from '../shared/serve.js'

const MIB = 1024 * 1024
// Only for the chart: it should show what is in use, without garbage that waits for collection.
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const FILLER = '.'.repeat(1000) // makes each event one kilobyte

export async function start({
  port = 0,
  host = '127.0.0.1',
  maxClients = 4,
  windowBytes = 8 * MIB, // kept in the log: the bound of the memory that events can take
  floodEvents = 30_000,
  burst = 150, // events between two pauses
  pauseMs = 25,
  sampleMs = 250,
} = {}) {
  const pool = new ClientPool({ maxClients, window: { events: 100_000, bytes: windowBytes } })
  const router = new Router()

  // When the pool is full, 'reject' would answer 503, after which a browser's EventSource never tries
  // again. 'retry' answers with an empty stream that says when to come back, so the page waits.
  router.get('/events', sse({ pool, overflow: 'retry', retry: 2000 }), ctx => {
    // The handler runs only for clients that have a place, so `welcome` tells the page that it has one.
    ctx.sse.send({ event: 'welcome', data: { maxClients, windowMiB: windowBytes / MIB } })
  })

  // ---- The count. It has a key, so if ten clients come at once, only the newest count stays queued.

  const count = () => {
    pool.broadcast({ event: 'count', data: pool.connections, key: 'count' })
  }
  pool.on('open', count)
  pool.on('close', count)
  // While closing, counts cannot be sent any more; that is not worth an error.
  pool.on('error', error => {
    if (!isClosing) app.emit('error', error)
  })

  // ---- Announcements

  router.post('/announce', async ctx => {
    const { text: given = '' } = /** @type {{ text?: unknown }} */ (ctx.request.body ?? {})
    const text = String(given).trim()
    if (text === '' || text.length > 200) ctx.throw(400, 'text: 1 to 200 characters')
    await pool.broadcast({ event: 'announce', data: { text } })
    ctx.status = 204
  })

  // ---- The flood. It does not wait for slow clients, because the pool handles them.

  let flooded = 0
  let isFlooding = false
  let isClosing = false

  async function flood() {
    isFlooding = true
    for (let n = 1; n <= floodEvents && !isClosing; n++) {
      flooded += 1
      pool.broadcast({ event: 'flood', data: { n: flooded, filler: FILLER } })
      if (n % burst === 0) await sleep(pauseMs)
    }
    isFlooding = false
  }
  router.post('/flood', ctx => {
    if (!isFlooding) flood()
    ctx.status = 202
  })

  // ---- Silent clients: they request the events and never read one

  /** @type {Map<net.Socket, number>} Each with the number of flood events sent before it connected. */
  const silent = new Map()

  router.post('/silent', ctx => {
    if (pool.connections >= maxClients) ctx.throw(409, 'no place left')
    const socket = net.connect(site.port, host).pause()
    socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n')
    // The pool closes a socket that accepts no data for 30 s, as `slow`.
    socket.on('error', () => {}).on('close', () => silent.delete(socket))
    silent.set(socket, flooded)
    ctx.status = 204
  })
  router.delete('/silent', ctx => {
    for (const socket of silent.keys()) socket.destroy()
    ctx.status = 204
  })

  // ---- Memory samples for the chart

  function sample() {
    collectGarbage()
    const { heapUsed, external } = process.memoryUsage()
    const unread = [...silent.values()].reduce((sum, since) => sum + flooded - since, 0)
    return {
      memory: (heapUsed + external) / MIB,
      unread: (unread * FILLER.length) / MIB,
      silent: silent.size,
      isFlooding,
      stats: pool.stats(),
    }
  }
  const timer = setInterval(() => {
    if (pool.size > 0) pool.broadcast({ event: 'sample', data: sample(), key: 'sample' })
  }, sampleMs)

  servePage(router, import.meta.url)
  const app = new Koa()
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  const site = await listen(app, port, host)

  async function close() {
    isClosing = true
    clearInterval(timer)
    for (const socket of silent.keys()) socket.destroy()
    await closeGracefully(site.server, pool, { spread: 500 })
  }
  return { ...site, pool, close }
}

runIfMain(import.meta.url, start)
