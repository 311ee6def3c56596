// @ts-check
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import { Runs } from 'koa-sse-pool/runs'
import { servePage } from '../shared/serve.js'

export function createApp({
  pool = new ClientPool(),
  stepMs = 1000, // between two steps of a job
  retryMs = 3000, // until a browser reconnects after a cut
} = {}) {
  const app = new Koa()
  const router = new Router()
  const runs = new Runs({ pool })
  /** @type {Map<string, string[]>} The jobs of each client. In your app, a table. */
  const jobs = new Map()

  // In this example anyone may listen to any id. In your app take it from ctx.session.userId.
  const id = ctx => ctx.query.id
  const jobsOf = id => jobs.get(String(id)) ?? []
  // Only for the demo: a socket to destroy, below.
  const keepSocket = ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
  }

  router.get('/event/push', sse({ pool, id, retry: retryMs }), keepSocket)

  router.post('/event/progress', async ctx => {
    const id = String(bodyOf(ctx).id)
    const job = randomUUID().slice(0, 8)
    await runs.start(job, work)
    jobs.set(id, [...jobsOf(id), job])
    // Every page of the client then reads the run.
    await pool.send(id, { event: 'job', data: { job } })
    ctx.status = 202
    ctx.body = { job }
  })

  // Works on without a page: the run keeps each step for the pages that come later.
  async function work({ id, append, signal }) {
    for (let count = 5; count <= 100; count += 5) {
      await sleep(stepMs, undefined, { signal })
      await append({ event: 'update', data: { job: id, count } })
    }
  }

  router.get('/event/jobs', ctx => {
    ctx.body = jobsOf(ctx.query.id)
  })

  const steps = runs.stream({
    id: ctx => jobsOf(ctx.query.id).find(job => job === ctx.params.job),
    identify: ctx => ({ id: id(ctx) }),
    retry: retryMs,
  })
  router.get('/event/jobs/:job', steps, keepSocket)

  // Only for the demo: simulates a network failure.
  router.post('/event/cut', ctx => {
    for (const { state } of pool.get(bodyOf(ctx).id)?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  pool.on('error', error => app.emit('error', error))

  servePage(router, import.meta.url)
  app.use(bodyParser()).use(router.routes()).use(router.allowedMethods())
  return { app, pool, runs }
}

/** @returns {{ id?: any }} */
function bodyOf(ctx) {
  return ctx.request.body ?? {}
}
