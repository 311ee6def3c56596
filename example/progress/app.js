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
import { openStorage } from '../shared/storage.js'

/**
 * A part of a job, which is a run. A job has one part, and one more for each process that ended before it.
 *
 * @typedef {{ run: string, client: string, from: number }} Part `from`: the last step of the part before
 */

export function createApp({
  storage = openStorage(),
  pool = new ClientPool({ log: storage.log() }),
  stepMs = 1000, // between two steps of a job
  retryMs = 3000, // until a browser reconnects after a cut
  leaseMs = 3000, // until the jobs of a killed process go on
} = {}) {
  const app = new Koa()
  const router = new Router()
  const runs = new Runs({ pool, store: storage.runs(), lease: leaseMs })
  /** @type {import('../shared/storage.js').Table<Part>} By run. */
  const parts = storage.table('parts')
  let isClosing = false

  // In this example anyone may listen to any id. In your app take it from ctx.session.userId.
  const id = ctx => ctx.query.id
  const runsOf = client =>
    [...parts.values()].filter(part => part.client === String(client)).map(({ run }) => run)
  // Only for the demo: a socket to destroy, below.
  const keepSocket = ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
  }

  router.get('/event/push', sse({ pool, id, retry: retryMs }), keepSocket)

  router.post('/event/progress', async ctx => {
    const job = randomUUID().slice(0, 8)
    await begin({ run: job, client: String(bodyOf(ctx).id), from: 0 })
    ctx.status = 202
    ctx.body = { job }
  })

  /** @param {Part} part */
  async function begin(part) {
    await runs.start(part.run, run => work(run, part.from))
    parts.set(part.run, part)
    // Every page of the client then reads the run.
    await pool.send(part.client, { event: 'job', data: { job: part.run } })
    follow(part)
  }

  // Works on without a page: the run keeps each step for the pages that come later.
  async function work({ id, append, signal }, from) {
    for (let count = from + 5; count <= 100; count += 5) {
      await sleep(stepMs, undefined, { signal })
      await append({ event: 'update', data: { job: jobOf(id), count } })
    }
  }

  /** A run whose process was killed ends as `lost` when its lease runs out. Then its job goes on in another run. */
  async function follow({ run, client, from }) {
    try {
      for await (const { data } of runs.read(run)) from = JSON.parse(data).count
      const end = await runs.get(run)
      // Closing ends it as `lost` too: then the process that is started next goes on.
      if (end?.state === 'lost' && !isClosing) await begin({ run: nextOf(run), client, from })
    } catch (error) {
      if (!isClosing) app.emit('error', error)
    }
  }

  /** Takes up what the last process has left. */
  async function takeUp() {
    for (const part of parts.values()) {
      const { state } = (await runs.get(part.run)) ?? {}
      if (state === undefined) parts.delete(part.run)
      const isUnfinished = state === 'open' || state === 'lost'
      if (isUnfinished && !parts.get(nextOf(part.run))) follow(part)
    }
  }

  router.get('/event/jobs', ctx => {
    ctx.body = runsOf(ctx.query.id)
  })

  const steps = runs.stream({
    id: ctx => runsOf(ctx.query.id).find(run => run === ctx.params.run),
    identify: ctx => ({ id: id(ctx) }),
    retry: retryMs,
  })
  router.get('/event/jobs/:run', steps, keepSocket)

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

  /** @param {(pool: ClientPool) => Promise<unknown>} closePool */
  async function close(closePool) {
    isClosing = true
    // The steps so far are stored. In your app wait for the jobs if they cannot go on elsewhere.
    await runs.close({ timeout: 0 })
    await closePool(pool)
    storage.close()
  }
  return { app, pool, runs, takeUp, close }
}

/** @param {string} run such as `3f2a`, then `3f2a.2` */
function nextOf(run) {
  const [job, part = 1] = run.split('.')
  return `${job}.${Number(part) + 1}`
}

/** @param {string} run */
function jobOf(run) {
  return run.split('.')[0]
}

/** @returns {{ id?: any }} */
function bodyOf(ctx) {
  return ctx.request.body ?? {}
}
