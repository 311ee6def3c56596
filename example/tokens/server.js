// @ts-check
import { readFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, SseError, sse } from 'koa-sse-pool'
import { closeAll, listen, runIfMain, servePage } from '../shared/serve.js'

/** @typedef {{ stop: AbortController, n: number, text: string }} Job */

const answer = await readFile(new URL('answer.txt', import.meta.url), 'utf8')
/** As a model would cut it: short pieces, which together are the text. */
const tokens = answer.trim().match(/\s*\S{1,6}/g) ?? []

export async function start({
  port = 0,
  host = '127.0.0.1',
  everyMs = 40, // between two tokens
  retryMs = 1500, // until a page comes back after a cut
  abandonMs = 20_000, // for how long a job goes on when nobody reads it
  forgetMs = 600_000, // until what a job has written is thrown away
  kept = 10_000, // events that the log keeps
} = {}) {
  const app = new Koa()
  const router = new Router()
  const pool = new ClientPool({ window: { events: kept } })

  // ---- One way: straight into the response. Who leaves ends it, and there is no way back.

  router.post('/direct', sse({ pool, resume: false }), async ctx => {
    const producer = begin(ctx)
    // `stream` reads no faster than the client does, and the signal stops the producer at once.
    const source = generate(producer, ctx.sse.signal)
    await ctx.sse.stream(source, token => ({ event: 'token', data: token }))
    ctx.sse.send({ event: 'done', data: '' })
    ctx.sse.end()
  })

  // ---- The other way: a job writes to its id, in the pool's log. Who is cut off reads on there.

  /** @type {Map<string, Job>} */
  const jobs = new Map()

  // Without the option `id` it is a random UUID: nobody can guess it, and who knows it may read.
  router.post('/jobs', sse({ pool, retry: retryMs }), ctx => {
    run(ctx.sse.id, begin(ctx)).catch(error => app.emit('error', error))
  })

  async function run(id, producer) {
    const job = { stop: new AbortController(), n: 0, text: '' }
    const { signal } = job.stop
    jobs.set(id, job)
    try {
      for await (const token of generate(producer, signal)) {
        job.n = token.n
        job.text += token.text
        await pool.send(id, { event: 'token', data: token })
      }
      await pool.send(id, { event: 'done', data: '' })
    } catch (error) {
      if (!signal.aborted) throw error
    }
    setTimeout(() => jobs.delete(id), forgetMs).unref()
    // Ends the stream of the page, or that of its return: after all that it has missed.
    if (!isClosing) await pool.remove(id)
  }

  // Comes back with Last-Event-ID, and gets what it missed; without one it gets all.
  const back = sse({ pool, id: ctx => ctx.params.job, replay: 'all', retry: retryMs })
  router.get('/jobs/:job', jobOf, back, ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
    ctx.sse.send({ event: 'ready', data: '' })
  })

  // The state itself, for a page that was away for longer than the log goes back.
  router.get('/jobs/:job/text', jobOf, ctx => {
    const { n, text } = ctx.state.job
    ctx.body = { n, text }
  })

  // A connection that breaks is no wish to stop, so that wish has a request of its own.
  router.delete('/jobs/:job', jobOf, ctx => {
    ctx.state.job.stop.abort('cancelled')
    ctx.status = 204
  })

  function jobOf(ctx, next) {
    ctx.state.job = jobs.get(ctx.params.job) ?? ctx.throw(404, 'no such job')
    return next()
  }

  // A crashed browser cancels nothing: a job that nobody has read for a while stops too.
  pool.on('close', ({ id }) => {
    const check = () => pool.has(id) || jobs.get(id)?.stop.abort('abandoned')
    setTimeout(check, abandonMs).unref()
  })

  // ---- What stands for the model: slow, costly, and to be stopped when nobody wants it

  async function* generate(producer, signal) {
    let n = 0
    try {
      for (const text of tokens) {
        await sleep(everyMs, undefined, { signal })
        n += 1
        report(producer, n, 'writing')
        yield { n, text }
      }
    } finally {
      report(producer, n, n === tokens.length ? 'finished' : `stopped: ${whyOf(signal)}`)
    }
  }

  // ---- For the page: what the producers do. By number, since the ids of jobs are secrets.

  const watchers = new ClientPool({ window: { events: 1000 } })
  router.get('/producers', sse({ pool: watchers }))
  function report(producer, n, state) {
    if (isClosing) return
    const data = { producer, n, of: tokens.length, state }
    watchers.broadcast({ event: 'producer', data, key: String(producer) })
  }

  let producers = 0
  let isClosing = false

  function begin(ctx) {
    const producer = ++producers
    ctx.sse.state = { socket: ctx.req.socket }
    ctx.sse.send({ event: 'start', data: { id: ctx.sse.id, producer } })
    return producer
  }

  // Only for the demo: as if the network went away.
  router.post('/cut/:id', ctx => {
    for (const { state } of pool.get(String(ctx.params.id))?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  // A bare name, as the page imports it by its import map.
  const parser = new URL(import.meta.resolve('eventsource-parser'))
  servePage(router, import.meta.url, { '/lib/eventsource-parser.js': parser })
  const site = await listen(app.use(router.routes()).use(router.allowedMethods()), port, host)

  async function close() {
    isClosing = true
    for (const { stop } of jobs.values()) stop.abort('shutdown')
    await closeAll([pool, watchers], [site.server])
  }
  return { ...site, pool, jobs, answer: answer.trim(), close }
}

/** @param {AbortSignal} signal */
function whyOf({ reason }) {
  return reason instanceof SseError ? `the stream closed, ${reason.reason}` : String(reason)
}

runIfMain(import.meta.url, start)
