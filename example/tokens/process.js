// @ts-check
import { Socket } from 'node:net'
import Router from '@koa/router'
import { ClientPool, sse } from 'koa-sse-pool'
import { Runs } from 'koa-sse-pool/runs'
import { answers } from './answers.js'

/** @typedef {import('./server.js').Conversation} Conversation */

/**
 * One server process. In this example everyone has all conversations; in your app, check in each route that the
 * conversation is the user's.
 *
 * @param {{
 *   name: string,
 *   store: import('koa-sse-pool/runs').RunStore,
 *   conversations: import('../shared/storage.js').Table<Conversation>,
 *   tellAll(event: import('koa-sse-pool').PoolEvent): Promise<void>,
 *   pace(signal: AbortSignal): Promise<void>,
 *   retryMs: number,
 * }} options
 */
export function createProcess({ name, store, conversations, tellAll, pace, retryMs }) {
  const pool = new ClientPool()
  const runs = new Runs({ pool, store })
  const router = new Router({ prefix: `/${name}` })
  let isClosing = false

  // ---- The answers: each is a run, whose id is that of the question

  router.post('/conversations/:conversation/messages', async ctx => {
    const { id, text } = /** @type {any} */ (ctx.request).body ?? {}
    const answer = answers.get(text)
    if (!/^\w{1,64}$/.test(id) || answer === undefined) return ctx.throw(400)
    const conversation = find(ctx.params.conversation)
    if (!conversation.messages.some(message => message.id === id)) {
      if (conversation.running) ctx.throw(409, 'an answer is being written')
      conversation.messages.push({ id, role: 'user', text })
      conversation.running = id
      conversations.set(conversation.id, conversation)
    }
    // Starts nothing if the question was sent before.
    const { joined } = await runs.start(id, run => write(run, answer))
    if (!joined) {
      keepLater(conversation.id, id)
      await tell(conversation)
    }
    ctx.status = 202
  })

  /**
   * The stand-in for the model: slow, expensive, and worth stopping.
   *
   * @param {import('koa-sse-pool/runs').Run} run
   * @param {string} answer
   */
  async function write({ append, signal }, answer) {
    // Split the way a model would: short pieces that add up to the text.
    for (const token of answer.match(/\s*\S{1,6}/g) ?? []) {
      await pace(signal)
      await append({ event: 'token', data: token })
    }
  }

  /**
   * When the answer has ended, in whatever way, its text becomes a message of the conversation.
   *
   * @param {string} conversationId
   * @param {string} id
   */
  async function keep(conversationId, id) {
    let text = ''
    // Without a run, the store has lost it, or nobody has looked for longer than runs are kept.
    if (await runs.get(id)) {
      for await (const { event, data } of runs.read(id)) if (event === 'token') text += data
    }
    const { state = 'lost' } = (await runs.get(id)) ?? {}
    const conversation = find(conversationId)
    // Another request may have been faster.
    if (conversation.running !== id) return
    conversation.messages.push({ id, role: 'assistant', text, state })
    delete conversation.running
    conversations.set(conversation.id, conversation)
    await tell(conversation)
  }

  /** The same without waiting for it. @param {string} conversationId @param {string} id */
  function keepLater(conversationId, id) {
    keep(conversationId, id).catch(error => {
      // What cannot be stored while closing, the next process finds.
      if (!isClosing) pool.emit('error', error)
    })
  }

  /** @param {import('koa').Context} ctx */
  const keepSocket = ctx => {
    ctx.sse.state = { socket: ctx.req.socket }
  }
  const answer = runs.stream({
    id: ctx => ctx.params.id,
    // Only for /cut: which page reads.
    identify: ctx => ({ id: ctx.query.page }),
    retry: retryMs,
  })
  router.get('/answers/:id', answer, keepSocket)

  // A broken connection does not mean that the user wants to stop, so stopping is a request of its own.
  router.delete('/answers/:id', async ctx => {
    ctx.status = (await runs.stop(String(ctx.params.id))) ? 204 : 404
  })

  // ---- The conversations

  router.get('/conversations', ctx => {
    ctx.body = [...conversations.values()].map(summaryOf)
  })

  router.get('/conversations/:conversation', async ctx => {
    const { id, running } = find(ctx.params.conversation)
    // If the process that wrote the answer has died, its text is not stored yet.
    if (running && (await runs.get(running))?.state !== 'open') await keep(id, running)
    ctx.body = find(id)
  })

  // Tells every page which conversations there are, and which answers are being written.
  router.get('/changes', sse({ pool }))
  /** @param {Conversation} conversation */
  const tell = conversation =>
    tellAll({ event: 'conversation', key: conversation.id, data: summaryOf(conversation) })

  /** @param {string | undefined} id @returns {Conversation} */
  function find(id = '') {
    return conversations.get(id) ?? { id, messages: [] }
  }

  /** @param {Conversation} conversation */
  function summaryOf({ id, messages, running }) {
    return { id, title: messages[0]?.text, running }
  }

  // Only for the demo: simulates a network failure.
  router.post('/cut/:page', ctx => {
    for (const { state } of pool.get(String(ctx.params.page))?.streams ?? []) {
      if (state.socket instanceof Socket) state.socket.destroy()
    }
    ctx.status = 204
  })

  /** What is still being written ends as lost. */
  async function close() {
    isClosing = true
    await runs.close({ timeout: 0 })
  }
  return { router, pool, runs, keepLater, close }
}
