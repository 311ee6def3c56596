// @ts-check
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { closeGracefully } from 'koa-sse-pool'
import { memoryRuns } from 'koa-sse-pool/runs'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { answers } from './answers.js'
import { createProcess } from './process.js'

/** @typedef {{ id: string, role: 'user' | 'assistant', text: string, state?: string }} Message */
/** @typedef {{ id: string, messages: Message[], running?: string }} Conversation */

export async function start({
  port = 0,
  host = '127.0.0.1',
  // What the model waits for before each token.
  pace = signal => sleep(40, undefined, { signal }),
  retryMs = 1500, // until a page reconnects after a cut
} = {}) {
  const app = new Koa().use(bodyParser())

  // Two processes, each under a path of its own. They share only what several servers would share: the runs…
  const openStore = await sharedStore()
  /** @type {Map<string, Conversation>} …the conversations, in your app a table… */
  const conversations = new Map()
  // …and what is told to all pages: in your app `pool.broadcast()`, if the pools share a log.
  const tellAll = async event => {
    await Promise.all(processes.map(({ pool }) => pool.broadcast(event)))
  }
  const processes = ['a', 'b'].map(name =>
    createProcess({ name, store: openStore(), conversations, tellAll, pace, retryMs }),
  )
  for (const { router, pool } of processes) {
    app.use(router.routes()).use(router.allowedMethods())
    pool.on('error', error => app.emit('error', error))
  }

  const page = new Router()
  page.get('/questions', ctx => {
    ctx.body = [...answers.keys()]
  })
  servePage(page, import.meta.url)
  const site = await listen(app.use(page.routes()), port, host)

  async function close() {
    await Promise.all(processes.map(({ runs }) => runs.close({ timeout: 0 })))
    const pools = processes.map(({ pool }) => pool)
    await closeGracefully(site.server, pools, { spread: 500 })
  }
  return { ...site, processes, conversations, close }
}

/** Returns what opens the store for a process: the memory that both have in common, or with REDIS_URL, Redis. */
async function sharedStore() {
  const { REDIS_URL: url } = process.env
  if (!url) {
    const store = memoryRuns()
    return () => store
  }
  const { createClient } = await import('redis')
  const { redisRuns } = await import('koa-sse-pool/redis')
  return () => redisRuns({ client: createClient({ url }), key: 'koa-sse-pool:tokens' })
}

runIfMain(import.meta.url, start)
