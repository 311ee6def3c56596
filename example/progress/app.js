// @ts-check
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, SseError, sse } from 'koa-sse-pool'
import { servePage } from '../shared/serve.js'

export function createApp({
  pool = new ClientPool(),
  stepMs = 1000, // between two steps of a job
  retryMs = 3000, // until a browser reconnects after a cut
  forgetMs = 600_000, // until a client without a page is forgotten, and its jobs stop
} = {}) {
  const app = new Koa()
  const router = new Router()
  /** @type {Map<string, Map<string, number>>} The progress of each client's jobs. In your app, a table. */
  const clients = new Map()

  // In this example anyone may listen to any id. In your app take it from ctx.session.userId.
  // `replay`: a reloaded page gets every step of its jobs again, as long as the log has them.
  const options = {
    pool,
    id: ctx => ctx.query.id,
    retry: retryMs,
    replay: /** @type {const} */ ('all'),
  }
  router.get('/event/push', sse(options), ctx => {
    const { id } = ctx.sse
    ctx.sse.state = { socket: ctx.req.socket }
    if (!clients.has(id)) clients.set(id, new Map())
    // Arrives after the replay, so it also tells the page that it is up to date.
    ctx.sse.send({ event: 'ready', data: { id } })
  })

  router.post('/event/progress', ctx => {
    const { id } = bodyOf(ctx)
    const jobs = clients.get(id) ?? ctx.throw(404, 'no such client')
    const job = randomUUID().slice(0, 8)
    jobs.set(job, 0)
    run(id, jobs, job).catch(() => {}) // already reported by the pool's `error` event, below
    ctx.status = 202
    ctx.body = { job }
  })

  // Needs no connection: the log keeps each step until the page is back.
  async function run(id, jobs, job) {
    for (let count = 5; count <= 100; count += 5) {
      await sleep(stepMs)
      if (clients.get(id) !== jobs) return // the client was forgotten
      jobs.set(job, count)
      // With `key: job`, a reconnecting client would get only the newest step instead of every step.
      await pool.send(id, { event: 'update', data: { job, count } })
    }
  }

  // The state, for a page that was away for longer than the log goes back.
  router.get('/event/jobs', ctx => {
    ctx.body = Object.fromEntries(clients.get(String(ctx.query.id)) ?? [])
  })

  // Only for the demo: simulates a network failure.
  router.post('/event/cut', ctx => {
    for (const { state } of pool.get(bodyOf(ctx).id)?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  pool.on('error', error => {
    const atShutdown = error instanceof SseError && error.code === 'ERR_SSE_POOL_CLOSED'
    if (!atShutdown) app.emit('error', error)
  })

  pool.on('close', ({ id }) => {
    setTimeout(() => pool.has(id) || clients.delete(id), forgetMs).unref()
  })

  servePage(router, import.meta.url)
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  return { app, pool }
}

/** @returns {{ id?: any }} */
function bodyOf(ctx) {
  return ctx.request.body ?? {}
}
