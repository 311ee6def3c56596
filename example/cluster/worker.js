// @ts-check
// One of the server processes: an ordinary app. That there are others shows in one line, `log`.
import http from 'node:http'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, SseError, sse } from 'koa-sse-pool'
import { servePage } from '../shared/serve.js'
import { makeLog } from './log.js'

export function serve() {
  const { name, port, store, retryMs } = JSON.parse(process.env.EXAMPLE_CLUSTER ?? '')
  const pool = new ClientPool({ log: makeLog(store) })
  const router = new Router()

  // A process that is being drained refuses with 503, and the proxy asks the next one.
  // `latest`: a page that is new begins with the newest number, and learns which processes there are.
  const route = sse({ pool, id: ctx => ctx.query.id, retry: retryMs, replay: 'latest' })
  router.get('/events', route, ctx => {
    // After all that was missed, so it also tells the page that it is up to date.
    ctx.sse.send({ event: 'welcome', data: { name, pid: process.pid, store: store.name } })
  })

  // Any process can be asked for all of them: they find each other by the log.
  router.get('/where', async ctx => {
    const [locations, count] = await Promise.all([pool.locate(String(ctx.query.id)), pool.count()])
    ctx.body = { asked: name, locations, count }
  })

  // ---- What the primary wants to know and to have done

  const report = () => {
    const { streams, replays, gaps } = pool.stats()
    const clients = [...pool.keys()]
    tellPrimary({ report: { isReady: pool.isReady, streams, clients, replays, gaps } })
  }
  pool.on('open', report)
  pool.on('close', report)
  setInterval(report, 250) // no event tells that `isReady` has changed
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
    await pool.close({ spread }) // first: an open stream would keep server.close() waiting
    server.close(() => process.exit())
  }
  // Ctrl+C in a terminal reaches this process too, but the primary says when to go.
  process.on('SIGINT', () => {})

  servePage(router, import.meta.url)
  const app = new Koa().use(router.routes()).use(router.allowedMethods())
  // Exclusive, or else node:cluster has the primary accept all connections and hand them out.
  const server = http.createServer(app.callback())
  server.listen({ port, host: '127.0.0.1', exclusive: true })
}

/** When it is uncertain, as the connection broke in mid-call, it is sent again and stored once. */
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
  // The primary may be gone, and then this process soon is too.
  process.send?.(message, undefined, undefined, () => {})
}
