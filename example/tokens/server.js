// @ts-check
import { readFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Router from '@koa/router'
import Koa from 'koa'
import { ClientPool, closeGracefully, SseError, sse } from 'koa-sse-pool'
import { listen, runIfMain, servePage } from '../shared/serve.js'

/** @typedef {{ stop: AbortController, n: number, text: string }} Job */

const answer = await readFile(new URL('answer.txt', import.meta.url), 'utf8')
/** Split the way a model would: short pieces that add up to the text. */
const tokens = answer.trim().match(/\s*\S{1,6}/g) ?? []

export async function start({
  port = 0,
  host = '127.0.0.1',
  everyMs = 40, // between two tokens
  retryMs = 1500, // until a page reconnects after a cut
  abandonMs = 20_000, // how long a job continues without a client
  forgetMs = 600_000, // until the text of a finished job is deleted
  kept = 10_000, // events that the log keeps
} = {}) {
  const app = new Koa()
  const router = new Router()
  const pool = new ClientPool({ window: { events: kept } })

  // ---- First way: directly into the response. A lost connection ends it, and it cannot be resumed.

  router.post('/direct', sse({ pool, resume: false }), async ctx => {
    const producer = begin(ctx)
    // `stream` reads no faster than the client, and the signal stops the producer at once.
    const source = generate(producer, ctx.sse.signal)
    await ctx.sse.stream(source, token => ({ event: 'token', data: token }))
    ctx.sse.send({ event: 'done', data: '' })
    ctx.sse.end()
  })

  // ---- Second way: a job sends to its own id, through the pool's log. A reconnecting page resumes there.

  /** @type {Map<string, Job>} */
  const jobs = new Map()

  // Without the option `id`, the id is a random UUID. It cannot be guessed, and anyone who knows it may read.
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
    // Ends the page's stream, now or after a reconnect, once everything missed has been delivered.
    if (!isClosing) await pool.remove(id)
  }

  // With Last-Event-ID the page gets what it missed; without it, everything.
  const back = sse({ pool, id: ctx => ctx.params.job, replay: 'all', retry: retryMs })
  router.get('/jobs/:job', jobOf, back, ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
    ctx.sse.send({ event: 'ready', data: '' })
  })

  // The whole text, for a page that was away for longer than the log goes back.
  router.get('/jobs/:job/text', jobOf, ctx => {
    const { n, text } = ctx.state.job
    ctx.body = { n, text }
  })

  // A broken connection does not mean that the user wants to stop, so stopping is a separate request.
  router.delete('/jobs/:job', jobOf, ctx => {
    ctx.state.job.stop.abort('cancelled')
    ctx.status = 204
  })

  function jobOf(ctx, next) {
    ctx.state.job = jobs.get(ctx.params.job) ?? ctx.throw(404, 'no such job')
    return next()
  }

  // A crashed browser cannot cancel, so a job without a client stops after a while.
  pool.on('close', ({ id }) => {
    const check = () => pool.has(id) || jobs.get(id)?.stop.abort('abandoned')
    setTimeout(check, abandonMs).unref()
  })

  // ---- The stand-in for the model: slow, expensive, and worth stopping when nobody reads it

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

  // ---- The state of the producers, for the page. Identified by number, because job ids are secret.

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

  // Only for the demo: simulates a network failure.
  router.post('/cut/:id', ctx => {
    for (const { state } of pool.get(String(ctx.params.id))?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  // The page imports it by its bare name, through the import map.
  const parser = new URL(import.meta.resolve('eventsource-parser'))
  servePage(router, import.meta.url, { '/lib/eventsource-parser.js': parser })
  const site = await listen(app.use(router.routes()).use(router.allowedMethods()), port, host)

  async function close() {
    isClosing = true
    for (const { stop } of jobs.values()) stop.abort('shutdown')
    await closeGracefully(site.server, [pool, watchers], { spread: 500 })
  }
  return { ...site, pool, jobs, answer: answer.trim(), close }
}

/** @param {AbortSignal} signal */
function whyOf({ reason }) {
  return reason instanceof SseError ? `the stream closed, ${reason.reason}` : String(reason)
}

runIfMain(import.meta.url, start)
