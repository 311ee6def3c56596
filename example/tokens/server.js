// @ts-check
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import Koa from 'koa'
import { closeGracefully } from 'koa-sse-pool'
import { listen, runIfMain, servePage } from '../shared/serve.js'
import { openStorage } from '../shared/storage.js'
import { questions } from './answers.js'
import { createProcess } from './process.js'

/** @typedef {{ id: string, role: 'user' | 'assistant', text: string, state?: string }} Message */
/** @typedef {{ id: string, messages: Message[], running?: string }} Conversation */

export async function start({
  port = 0,
  host = '127.0.0.1',
  // What the model waits for before each token.
  pace = signal => sleep(40, undefined, { signal }),
  retryMs = 1500, // until a page reconnects after a cut
  file = /** @type {string | undefined} */ (undefined), // where everything is kept; by default in memory
} = {}) {
  const app = new Koa().use(bodyParser())

  // Two processes, each under a path of its own. They share only what several servers would share: the runs…
  const storage = openStorage(file)
  const openStore = (await redisStore()) ?? storage.runs
  /** @type {import('../shared/storage.js').Table<Conversation>} …the conversations, in your app a table… */
  const conversations = storage.table('conversations')
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

  // What was being written when the last process ended, with what there is of it.
  for (const { id, running } of conversations.values()) {
    if (running) processes[0]?.keepLater(id, running)
  }

  const page = new Router()
  page.get('/questions', ctx => {
    ctx.body = questions
  })
  servePage(page, import.meta.url)
  const site = await listen(app.use(page.routes()), port, host)

  async function close() {
    await Promise.all(processes.map(each => each.close()))
    const pools = processes.map(({ pool }) => pool)
    await closeGracefully(site.server, pools, { spread: 500 })
    storage.close()
  }
  return { ...site, processes, conversations, close }
}

/** With REDIS_URL, what opens the store for a process there. */
async function redisStore() {
  const { REDIS_URL: url } = process.env
  if (!url) return undefined
  const { createClient } = await import('redis')
  const { redisRuns } = await import('koa-sse-pool/redis')
  return () => redisRuns({ client: createClient({ url }), key: 'koa-sse-pool:tokens' })
}

runIfMain(import.meta.url, start)
