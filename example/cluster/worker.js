// @ts-check
// One of the server processes: an ordinary app. Only the option `log` differs from a single process.
import http from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, SseError, sse } from 'koa-sse-pool'
import { servePage } from '../shared/serve.js'
import { makeLog } from './log.js'

export function serve() {
  const { name, port, store, retryMs } = JSON.parse(process.env.EXAMPLE_CLUSTER ?? '')
  const pool = new ClientPool({ log: makeLog(store) })
  const router = new Router()

  // `latest`: a new page starts with the newest number and the newest list of processes.
  const route = sse({ pool, id: ctx => ctx.query.id, retry: retryMs, replay: 'latest' })
  // The pool of a draining process would tell the browser to come back later. After a 503 the proxy tries
  // the next process at once.
  const available = (ctx, next) => (pool.isReady ? next() : ctx.throw(503))
  router.get('/events', available, route, ctx => {
    // Arrives after the replay, so it also tells the page that it is up to date.
    ctx.sse.send({ event: 'welcome', data: { name, pid: process.pid, store: store.name } })
  })

  // Any process can answer for all of them, because they find each other through the log.
  router.get('/where', async ctx => {
    const [locations, count] = await Promise.all([pool.locate(String(ctx.query.id)), pool.count()])
    ctx.body = { asked: name, locations, count }
  })

  // ---- Reports to the primary, and orders from it

  const report = () => {
    const { streams, replays, gaps } = pool.stats()
    const clients = [...pool.keys()]
    tellPrimary({ report: { isReady: pool.isReady, streams, clients, replays, gaps } })
  }
  pool.on('open', report)
  pool.on('close', report)
  setInterval(report, 250) // because no event announces a change of `isReady`
  pool.on('error', error => console.error(`${name}: ${error}`))

  process.on('message', async (/** @type {any} */ order) => {
    if (order.publish) await publish(order.publish)
    if (order.drain) await leave(order.drain.spread)
  })

  async function publish(n) {
    const isStored = await stored(() => pool.broadcast({ event: 'number', data: { n, by: name } }))
    tellPrimary({ published: { n, isStored } })
  }

  async function leave(spread) {
    await closeGracefully(server, pool, { spread })
    process.exit()
  }
  // Ctrl+C in a terminal reaches this process too, but the primary decides when it exits.
  process.on('SIGINT', () => {})

  servePage(router, import.meta.url)
  const app = new Koa().use(router.routes()).use(router.allowedMethods())
  // Without `exclusive`, node:cluster lets the primary accept all connections and distribute them.
  const server = http.createServer(app.callback())
  server.listen({ port, host: '127.0.0.1', exclusive: true })
}

/** If the connection broke during the call, it is uncertain: repeat it; it is stored only once. */
async function stored(send) {
  try {
    await send()
    return true
  } catch (error) {
    const isUncertain = error instanceof SseError && error.code === 'ERR_SSE_LOG_UNCERTAIN'
    return isUncertain && error.retry ? stored(error.retry) : false
  }
}

function tellPrimary(message) {
  // Ignores errors: if the primary is gone, this process soon is too.
  process.send?.(message, undefined, undefined, () => {})
}
