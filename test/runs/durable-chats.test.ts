/**
 * The chats that come with the protocol, against `durableStreams()`: its transports for the AI SDK and for TanStack
 * AI, each on both sides, with the real chat clients and without React.
 */

import {
  createDurableChatTransport,
  toDurableStreamResponse,
} from '@durable-streams/aisdk-transport'
import {
  durableStreamConnection,
  ensureDurableChatSessionStream,
  materializeSnapshotFromDurableStream,
  toDurableChatSessionResponse,
} from '@durable-streams/tanstack-ai-transport'
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import { type AnyTextAdapter, chat, type StreamChunk } from '@tanstack/ai'
import { ChatClient, type UIMessage as TanStackMessage } from '@tanstack/ai-client'
import { AbstractChat, type ChatState, type UIMessage, type UIMessageChunk } from 'ai'
import type Koa from 'koa'
import { durableStreams, memoryRuns } from 'koa-sse-pool/runs'
import { expect, onTestFinished, test } from 'vitest'
import { serveApp } from '../helpers/app.js'

/** An answer that says what the test tells it to, until it is finished or stopped. */
class Answer {
  readonly controller = new AbortController()
  readonly #words: string[] = []
  #isFinished = false
  #wake = () => {}

  constructor() {
    this.controller.signal.addEventListener('abort', () => this.finish())
  }

  say(...words: string[]) {
    this.#words.push(...words)
    this.#wake()
  }

  finish() {
    this.#isFinished = true
    this.#wake()
  }

  async *words() {
    while (this.#words.length > 0 || !this.#isFinished) {
      const word = this.#words.shift()
      if (word !== undefined) yield word
      else {
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
      }
    }
  }
}

async function send(ctx: Koa.Context, response: Response) {
  ctx.status = response.status
  ctx.set(Object.fromEntries(response.headers))
  ctx.body = await response.text()
}

/** An app with the streams, and with routes that are given their URL. */
async function serve(routes: (router: Router, streams: string) => void) {
  const router = new Router()
  const { origin, errors } = await serveApp(
    durableStreams({ store: memoryRuns() }),
    bodyParser(),
    router.routes() as Koa.Middleware,
  )
  routes(router, `${origin}/v1/stream`)
  onTestFinished(() => expect(errors).toEqual([]))
  return origin
}

/** A tab with the chat of the AI SDK. */
class Tab extends AbstractChat<UIMessage> {
  constructor(origin: string, messages: UIMessage[] = []) {
    const state: ChatState<UIMessage> = {
      status: 'ready',
      error: undefined,
      messages,
      pushMessage(message) {
        state.messages = [...state.messages, message]
      },
      popMessage() {
        state.messages = state.messages.slice(0, -1)
      },
      replaceMessage(index, message) {
        state.messages = state.messages.with(index, message)
      },
      snapshot: structuredClone,
    }
    const transport = createDurableChatTransport({ api: `${origin}/chats` })
    super({ id: '7', transport, state })
  }

  get shown() {
    const last = this.lastMessage
    const parts = last?.role === 'assistant' ? last.parts : []
    return [this.status, parts.map(part => (part.type === 'text' ? part.text : '')).join('')]
  }
}

test('AI SDK: a page that is reloaded in mid-answer gets the whole answer, and stop ends it for all pages', async () => {
  let answer = new Answer()
  let answers = 0
  let active: string | undefined
  async function* chunks(): AsyncGenerator<UIMessageChunk> {
    yield { type: 'start', messageId: `answer ${answers}` }
    yield { type: 'text-start', id: 'text' }
    for await (const delta of answer.words()) yield { type: 'text-delta', id: 'text', delta }
    yield { type: 'text-end', id: 'text' }
    yield answer.controller.signal.aborted ? { type: 'abort' } : { type: 'finish' }
    active = undefined
  }
  const origin = await serve((router, streams) => {
    router.post('/chats', async ctx => {
      answers += 1
      active = `${streams}/answers/${answers}`
      const stream = { writeUrl: active }
      await send(ctx, await toDurableStreamResponse({ source: chunks(), stream }))
    })
    router.delete('/chats/:id', ctx => {
      answer.controller.abort()
      ctx.status = 204
    })
    router.get('/chats/:id/stream', ctx => {
      ctx.status = active === undefined ? 204 : 200
      if (active !== undefined) ctx.body = { streamUrl: active }
    })
  })

  const tab = new Tab(origin)
  const first = tab.sendMessage({ text: 'Hello?' })
  answer.say('Hello ', 'there')
  await expect.poll(() => tab.shown).toEqual(['streaming', 'Hello there'])
  const reloaded = new Tab(origin, tab.messages.slice(0, 1))
  const resumed = reloaded.resumeStream()
  await expect.poll(() => reloaded.shown).toEqual(['streaming', 'Hello there'])
  // The page that leaves does not stop the answer.
  await tab.stop()
  answer.say(', reader')
  answer.finish()
  await Promise.all([first, resumed])
  expect(reloaded.shown).toEqual(['ready', 'Hello there, reader'])
  expect(tab.shown).toEqual(['ready', 'Hello there'])
  // There is nothing to resume any more.
  await reloaded.resumeStream()
  expect(reloaded.shown).toEqual(['ready', 'Hello there, reader'])

  answer = new Answer()
  const second = reloaded.sendMessage({ text: 'More?' })
  answer.say('No')
  await expect.poll(() => reloaded.shown).toEqual(['streaming', 'No'])
  const other = new Tab(origin, reloaded.messages.slice(0, 3))
  const followed = other.resumeStream()
  await expect.poll(() => other.shown).toEqual(['streaming', 'No'])
  await fetch(`${origin}/chats/7`, { method: 'DELETE' })
  await Promise.all([second, followed])
  expect(reloaded.shown).toEqual(['ready', 'No'])
  expect(other.shown).toEqual(['ready', 'No'])
})

/** With the end of the run that `chat()` leaves out when it is aborted; without it, all pages would go on waiting. */
async function* ended(chunks: AsyncIterable<StreamChunk>, signal: AbortSignal) {
  let run = {}
  for await (const chunk of chunks) {
    if (chunk.type === 'RUN_STARTED') run = { runId: chunk.runId, threadId: chunk.threadId }
    yield chunk
  }
  if (signal.aborted) yield { type: 'RUN_FINISHED', ...run, finishReason: 'stop' }
}

test('TanStack AI: a session is shared by its pages, also by one that is reloaded in mid-answer, and stop ends the answer', async () => {
  let answer = new Answer()
  let answers = 0
  const adapter = {
    kind: 'text',
    name: 'test',
    model: 'test',
    async *chatStream({
      runId = 'run',
      threadId = 'thread',
    }: {
      runId?: string
      threadId?: string
    }) {
      const messageId = `answer ${answers}`
      yield { type: 'RUN_STARTED', runId, threadId }
      yield { type: 'TEXT_MESSAGE_START', messageId, role: 'assistant' }
      for await (const delta of answer.words())
        yield { type: 'TEXT_MESSAGE_CONTENT', messageId, delta }
      yield { type: 'TEXT_MESSAGE_END', messageId }
      yield { type: 'RUN_FINISHED', runId, threadId, finishReason: 'stop' }
    },
  } as unknown as AnyTextAdapter
  const origin = await serve((router, streams) => {
    router.post('/chats', async ctx => {
      answers += 1
      const { messages } = ctx.request.body as { messages: TanStackMessage[] }
      const responseStream = chat({
        adapter,
        messages: messages as never,
        abortController: answer.controller,
      }) as AsyncIterable<StreamChunk>
      const response = await toDurableChatSessionResponse({
        stream: { writeUrl: `${streams}/session` },
        newMessages: messages.slice(-1) as never,
        responseStream: ended(responseStream, answer.controller.signal),
      })
      await send(ctx, response)
    })
    router.delete('/chats/:id', ctx => {
      answer.controller.abort()
      ctx.status = 204
    })
  })
  const readUrl = `${origin}/v1/stream/session`
  await ensureDurableChatSessionStream({ writeUrl: readUrl })
  const open = (initialMessages: TanStackMessage[] = [], initialOffset?: string) => {
    const errors: Error[] = []
    const client = new ChatClient({
      connection: durableStreamConnection({
        sendUrl: `${origin}/chats`,
        readUrl,
        ...(initialOffset !== undefined && { initialOffset }),
      }),
      initialMessages,
      onError: error => errors.push(error),
    })
    client.subscribe()
    onTestFinished(() => client.dispose())
    const texts = () =>
      client
        .getMessages()
        .map(({ parts }) => parts.map(part => (part.type === 'text' ? part.content : '')).join(''))
    return { client, errors, texts }
  }

  const tab = open()
  const first = tab.client.sendMessage('Hello?')
  answer.say('Hello ', 'there')
  await expect.poll(tab.texts).toEqual(['Hello?', 'Hello there'])
  const reloaded = open()
  await expect.poll(reloaded.texts).toEqual(['Hello?', 'Hello there'])
  // As a server renders the page.
  const { messages, offset } = await materializeSnapshotFromDurableStream({ readUrl })
  const rendered = open(messages, offset)
  expect(rendered.texts()).toEqual(['Hello?', 'Hello there'])
  answer.say(', reader')
  answer.finish()
  await first
  for (const { texts } of [tab, reloaded, rendered]) {
    await expect.poll(texts).toEqual(['Hello?', 'Hello there, reader'])
  }

  answer = new Answer()
  const second = reloaded.client.sendMessage('More?')
  answer.say('No')
  await expect.poll(() => rendered.texts().slice(2)).toEqual(['More?', 'No'])
  await fetch(`${origin}/chats/7`, { method: 'DELETE' })
  await second
  await expect.poll(() => reloaded.client.getStatus()).toBe('ready')
  for (const { client, texts, errors } of [tab, reloaded, rendered]) {
    await expect.poll(() => client.getSessionGenerating()).toBe(false)
    await expect.poll(() => texts().slice(2)).toEqual(['More?', 'No'])
    expect(errors).toEqual([])
  }
})
