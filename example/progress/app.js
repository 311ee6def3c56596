// @ts-check
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, SseError, sse } from 'koa-sse-pool'
import { servePage } from '../shared/serve.js'

/**
 * A client that is present: its open pages, and the progress of its jobs.
 * The pool knows only open streams. A page whose connection is down for a moment has no stream but has
 * not left, so the app keeps track of pages itself.
 *
 * @typedef {{ pages: Set<string>, jobs: Map<string, number> }} Presence
 */

export function createApp({
  pool = new ClientPool(),
  stepMs = 1000, // between two steps of a job
  retryMs = 3000, // until a browser reconnects after a cut
  forgetMs = 600_000, // until a page that vanished counts as gone
} = {}) {
  const app = new Koa()
  const router = new Router()
  /** @type {Map<string, Presence>} */
  const present = new Map()

  // In this example anyone may listen to any id. In your app take it from ctx.session.userId.
  router.get('/event/push', sse({ pool, id: ctx => ctx.query.id, retry: retryMs }), ctx => {
    const { id } = ctx.sse
    const page = String(ctx.query.page)
    ctx.sse.state = { page, socket: ctx.req.socket }
    const client = present.get(id) ?? { pages: new Set(), jobs: new Map() }
    present.set(id, client)
    client.pages.add(page)
    // Arrives after the replay, so it also tells the page that it is up to date.
    ctx.sse.send({ event: 'ready', data: { id } })
  })

  router.post('/event/progress', ctx => {
    const { id } = bodyOf(ctx)
    const client = present.get(id)
    if (!client) return ctx.throw(404, 'no such client')
    const job = randomUUID().slice(0, 8)
    client.jobs.set(job, 0)
    run(id, client, job).catch(() => {}) // already reported by the pool's `error` event, below
    ctx.status = 202
    ctx.body = { job }
  })

  // Continues without a connection: the log keeps each step until the client is back.
  async function run(id, client, job) {
    for (let count = 5; count <= 100; count += 5) {
      await sleep(stepMs)
      if (present.get(id) !== client) return // the client has left
      client.jobs.set(job, count)
      // With `key: job`, a reconnecting client would get only the newest step instead of every step.
      await pool.send(id, { event: 'update', data: { job, count } })
    }
  }

  // The state, for a page that is new or was away for longer than the log goes back.
  router.get('/event/jobs', ctx => {
    ctx.body = Object.fromEntries(present.get(String(ctx.query.id))?.jobs ?? [])
  })

  // A page's beacon says that it leaves. Without `page`, the whole client leaves.
  router.post('/event/remove', async ctx => {
    const { id, page } = bodyOf(ctx)
    // Some proxies do not report that the browser has left, so its stream would stay open.
    for (const stream of streams(id, page)) stream.end()
    if (page === undefined ? present.delete(id) : leave(id, page)) await pool.remove(id)
    ctx.status = 204
  })

  // Only for the demo: simulates a network failure.
  router.post('/event/cut', ctx => {
    const { id, page } = bodyOf(ctx)
    for (const { state } of streams(id, page)) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  pool.on('error', error => {
    const atShutdown = error instanceof SseError && error.code === 'ERR_SSE_POOL_CLOSED'
    if (!atShutdown) app.emit('error', error)
  })

  // A crashed browser sends no beacon, so its pages are dropped after a while.
  pool.on('close', ({ id, state: { page } }) => {
    const forget = () => streams(id, page).length > 0 || leave(id, page)
    setTimeout(forget, forgetMs).unref()
  })

  const streams = (id, page) =>
    [...(pool.get(id)?.streams ?? [])].filter(stream => stream.state.page === page)

  /** Returns true if this was the client's last page; its jobs stop then. */
  function leave(id, page) {
    const client = present.get(id)
    client?.pages.delete(page)
    return client?.pages.size === 0 && present.delete(id)
  }

  servePage(router, import.meta.url)
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  return { app, pool }
}

/** @returns {{ id?: any, page?: string }} */
function bodyOf(ctx) {
  return ctx.request.body ?? {}
}
