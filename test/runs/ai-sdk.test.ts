/**
 * The AI SDK as the judge: its own chat and transport, without React, against the routes of docs/answers.md.
 */
import { bodyParser } from '@koa/bodyparser'
import Router from '@koa/router'
import {
  AbstractChat,
  type ChatInit,
  type ChatState,
  type ChatStatus,
  convertToModelMessages,
  DefaultChatTransport,
  simulateReadableStream,
  streamText,
  type UIMessage,
  type UIMessageChunk,
} from 'ai'
import { MockLanguageModelV3 } from 'ai/test'
import type Koa from 'koa'
import type { ClientPool, PoolOptions } from 'koa-sse-pool'
import { Runs, type RunsOptions } from 'koa-sse-pool/runs'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { nextOpen, serveApp, watchCloses } from '../helpers/app.js'
import { fetchCounting } from '../helpers/heartbeats.js'
import { importSnippet } from '../helpers/run-snippets.js'
import { testPool } from '../helpers/server.js'

type Generate = (messages: UIMessage[], signal: AbortSignal) => AsyncIterable<object>

interface StoredChat {
  messages: UIMessage[]
  activeRun: string
}

const { chatRoutes } = (await importSnippet('docs/answers.md', 'chat.js')) as {
  chatRoutes(
    router: Router,
    app: { runs: Runs; chats: Map<string, StoredChat>; generate: Generate },
  ): void
}

/** What a page keeps, and who waits for it to change. */
class PageState implements ChatState<UIMessage> {
  error: Error | undefined
  status: ChatStatus = 'ready'
  messages: UIMessage[]

  constructor(messages: UIMessage[], changed: () => void) {
    this.messages = messages
    // biome-ignore lint/correctness/noConstructorReturn: it stands for the page, which draws itself again
    return new Proxy(this, {
      set(state, name, value) {
        Reflect.set(state, name, value)
        changed()
        return true
      },
    })
  }

  pushMessage(message: UIMessage) {
    this.messages = [...this.messages, message]
  }

  popMessage() {
    this.messages = this.messages.slice(0, -1)
  }

  replaceMessage(index: number, message: UIMessage) {
    this.messages = this.messages.with(index, { ...message })
  }

  snapshot<T>(thing: T): T {
    return structuredClone(thing)
  }
}

/** A tab. */
class TestChat extends AbstractChat<UIMessage> {
  readonly #watchers: Set<() => void>

  constructor({ messages = [], ...init }: ChatInit<UIMessage>) {
    const watchers = new Set<() => void>()
    const changed = () => {
      for (const watcher of watchers) watcher()
    }
    super({ ...init, state: new PageState(messages, changed) })
    this.#watchers = watchers
  }

  /** The text of the newest answer. */
  get answer(): string {
    return this.lastMessage?.role === 'assistant' ? textOf(this.lastMessage) : ''
  }

  /** What a user sees. */
  get shown(): string[] {
    return [this.status, this.answer, ...(this.error ? [this.error.message] : [])]
  }

  async until(condition: (chat: this) => boolean): Promise<void> {
    await new Promise<void>(resolve => {
      const check = () => {
        if (!condition(this)) return
        this.#watchers.delete(check)
        resolve()
      }
      this.#watchers.add(check)
      check()
    })
  }
}

const textOf = ({ parts }: UIMessage) =>
  parts.map(part => (part.type === 'text' ? part.text : '')).join('')

/** A model that says what the test tells it to. */
class TestModel {
  readonly calls: { messages: UIMessage[]; signal: AbortSignal }[] = []
  readonly #chunks: UIMessageChunk[] = [{ type: 'text-start', id: 'text' }]
  #isDone = false
  #failure: Error | undefined
  #wake = () => {}

  say(...deltas: string[]): this {
    for (const delta of deltas) this.#chunks.push({ type: 'text-delta', id: 'text', delta })
    this.#wake()
    return this
  }

  finish(): this {
    this.#chunks.push({ type: 'text-end', id: 'text' }, { type: 'finish', finishReason: 'stop' })
    this.#isDone = true
    this.#wake()
    return this
  }

  fail(error: Error): this {
    this.#failure = error
    this.#wake()
    return this
  }

  readonly generate: Generate = (messages, signal) => {
    this.calls.push({ messages, signal })
    signal.addEventListener('abort', () => this.#wake())
    return this.#answer(signal)
  }

  async *#answer(signal: AbortSignal) {
    for (let next = 0; ; ) {
      signal.throwIfAborted()
      if (next < this.#chunks.length) yield this.#chunks[next++] as UIMessageChunk
      else if (this.#failure) throw this.#failure
      else if (this.#isDone) return
      else {
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
      }
    }
  }
}

async function serveChat(
  generate: Generate,
  {
    pool: poolOptions,
    ...options
  }: { pool?: PoolOptions } & Omit<Partial<RunsOptions>, 'pool'> = {},
) {
  const pool = testPool(poolOptions) as ClientPool
  pool.on('error', () => {})
  const runs = new Runs({ pool, ...options })
  onTestFinished(() => runs.close({ timeout: 0 }))
  const router = new Router()
  const chats = new Map<string, StoredChat>()
  chatRoutes(router, { runs, chats, generate })
  const served = await serveApp(
    bodyParser({ jsonLimit: '10mb' }),
    router.routes() as Koa.Middleware,
  )
  const api = `${served.origin}/api/chat`
  const open = (init: ChatInit<UIMessage> = {}) =>
    new TestChat({ id: 'chat', transport: new DefaultChatTransport({ api }), ...init })
  return {
    ...served,
    api,
    pool,
    runs,
    chats,
    /** Opens a tab. */
    open,
    /** What a page loads first. */
    load: async () => (await (await fetch(`${api}/chat`)).json()) as UIMessage[],
    /** Resolves when the answer has ended. */
    ended: async () => {
      for await (const _ of runs.read(chats.get('chat')?.activeRun as string));
    },
    stop: async () => (await fetch(`${api}/chat/stop`, { method: 'POST' })).status,
  }
}

const question = (id: string, text = 'How are you?'): UIMessage => ({
  id,
  role: 'user',
  parts: [{ type: 'text', text }],
})

describe('the chat of the AI SDK', () => {
  test('gets the whole answer to each of its questions', async () => {
    const model = new TestModel().say('Fine', ', ', 'thanks').finish()
    const { open, chats } = await serveChat(model.generate)
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['ready', 'Fine, thanks'])
    expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant'])
    await chat.sendMessage({ text: 'And now?' })
    expect(chat.messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'user',
      'assistant',
    ])
    expect(model.calls).toHaveLength(2)
    expect(chats.get('chat')?.messages.map(({ id }) => id)).toEqual(
      chat.messages.map(({ id }) => id),
    )
  })

  test('generates an answer again when it is asked to', async () => {
    const model = new TestModel().say('Fine').finish()
    const { open } = await serveChat(model.generate)
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    const first = chat.lastMessage?.id
    await chat.regenerate({ messageId: first as string })
    expect(model.calls).toHaveLength(2)
    expect(chat.shown).toEqual(['ready', 'Fine'])
    expect(chat.messages).toHaveLength(2)
    expect(chat.lastMessage?.id).not.toBe(first)
  })

  test('completes an answer whose connection was cut, with nothing twice', async () => {
    const model = new TestModel().say('Fine')
    const { open, cut } = await serveChat(model.generate)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    cut()
    await sent
    expect(chat.status).toBe('error')
    model.say(', thanks')
    const resumed = chat.resumeStream()
    await chat.until(({ answer }) => answer === 'Fine, thanks')
    model.say('!').finish()
    await resumed
    expect(chat.shown).toEqual(['ready', 'Fine, thanks!'])
    expect(chat.messages).toHaveLength(2)
    expect(model.calls).toHaveLength(1)
  })

  test('shows what was stored, if the answer ended while it was cut off', async () => {
    const model = new TestModel().say('Fine')
    const { open, cut, load, ended } = await serveChat(model.generate)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    cut()
    await sent
    model.say(', thanks').finish()
    await ended()
    await chat.resumeStream()
    chat.messages = await load()
    expect(chat.shown).toEqual(['ready', 'Fine, thanks'])
    expect(chat.messages).toHaveLength(2)
  })

  test('resumes after a reload in mid-answer, and has nothing to resume after the end', async () => {
    const model = new TestModel().say('Fine')
    const { open, load } = await serveChat(model.generate)
    const before = open()
    const sent = before.sendMessage({ text: 'How are you?' })
    await before.until(({ answer }) => answer === 'Fine')
    const reloaded = open({ messages: await load() })
    const resumed = reloaded.resumeStream()
    await reloaded.until(({ answer }) => answer === 'Fine')
    model.say(', thanks').finish()
    await Promise.all([sent, resumed])
    expect(reloaded.shown).toEqual(['ready', 'Fine, thanks'])
    expect(reloaded.messages).toEqual(before.messages)
    const late = open({ messages: await load() })
    await late.resumeStream()
    expect(late.shown).toEqual(['ready', 'Fine, thanks'])
    expect(late.messages).toHaveLength(2)
  })

  test('has nothing to resume when its newest answer has expired', async () => {
    const { open, load } = await serveChat(new TestModel().say('Fine').finish().generate)
    await open().sendMessage({ text: 'How are you?' })
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * 3_600_000 })
    onTestFinished(() => void vi.useRealTimers())
    const late = open({ messages: await load() })
    await late.resumeStream()
    expect(late.shown).toEqual(['ready', 'Fine'])
  })

  test('keeps a part of an answer that another tab stops', async () => {
    const model = new TestModel().say('Fine')
    const { open, load, stop } = await serveChat(model.generate)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    expect(await stop()).toBe(202)
    await sent
    expect(chat.shown).toEqual(['ready', 'Fine'])
    expect(model.calls[0]?.signal.aborted).toBe(true)
    expect(await stop()).toBe(202)
    await vi.waitFor(async () => expect(await load()).toHaveLength(2))
    const reloaded = open({ messages: await load() })
    await reloaded.resumeStream()
    expect(reloaded.shown).toEqual(['ready', 'Fine'])
  })

  test('does not stop the answer by leaving', async () => {
    const model = new TestModel().say('Fine')
    const { open, load, ended } = await serveChat(model.generate)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    await chat.stop()
    await sent
    expect(chat.status).toBe('ready')
    expect(model.calls[0]?.signal.aborted).toBe(false)
    model.say(', thanks').finish()
    await ended()
    expect(open({ messages: await load() }).answer).toBe('Fine, thanks')
  })

  test('shows the same answer in two tabs', async () => {
    const model = new TestModel().say('Fine')
    const { open, load } = await serveChat(model.generate)
    const one = open()
    const sent = one.sendMessage({ text: 'How are you?' })
    await one.until(({ answer }) => answer === 'Fine')
    const others = await Promise.all([1, 2].map(async () => open({ messages: await load() })))
    const resumed = others.map(other => other.resumeStream())
    await Promise.all(others.map(other => other.until(({ answer }) => answer === 'Fine')))
    model.say(', ').say('thanks').finish()
    await Promise.all([sent, ...resumed])
    for (const other of others) expect(other.messages).toEqual(one.messages)
  })

  test('generates once, although the question was submitted twice', async () => {
    const model = new TestModel().say('Fine')
    const { open } = await serveChat(model.generate)
    const tabs = [open(), open()]
    const sent = tabs.map(tab => tab.sendMessage(question('q1')))
    await Promise.all(tabs.map(tab => tab.until(({ answer }) => answer === 'Fine')))
    model.say(', thanks').finish()
    await Promise.all(sent)
    // A retry that comes after the end gets the same answer.
    tabs.push(open())
    await tabs[2]?.sendMessage(question('q1'))
    for (const tab of tabs) expect(tab.shown).toEqual(['ready', 'Fine, thanks'])
    expect(new Set(tabs.map(({ lastMessage }) => lastMessage?.id)).size).toBe(1)
    expect(model.calls).toHaveLength(1)
  })

  test('shows the text of onError when the model fails', async () => {
    const model = new TestModel().say('Fine').fail(new Error('key 1234 is over its quota'))
    const { open, load } = await serveChat(model.generate, {
      onError: () => 'The model is not available',
    })
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['error', 'Fine', 'The model is not available'])
    const reloaded = open({ messages: await load() })
    await reloaded.resumeStream()
    expect(reloaded.shown).toEqual(['ready', 'Fine'])
  })

  test('shows a general text without onError', async () => {
    const model = new TestModel().fail(new Error('key 1234 is over its quota'))
    const { open } = await serveChat(model.generate)
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['error', '', 'The answer was not finished'])
  })

  test('reads past heartbeats while the model is quiet', async () => {
    const model = new TestModel()
    const { open, api } = await serveChat(model.generate, { pool: { pingInterval: 10 } })
    const heartbeats = fetchCounting(3)
    const chat = open({ transport: new DefaultChatTransport({ api, fetch: heartbeats.fetch }) })
    const sent = chat.sendMessage({ text: 'How are you?' })
    await heartbeats.received
    model.say('Fine').finish()
    await sent
    expect(chat.shown).toEqual(['ready', 'Fine'])
  })

  test('shows an error when the beginning of the answer is no longer kept', async () => {
    const model = new TestModel().say(...Array.from({ length: 50 }, (_, i) => `${i} `))
    const { open, load, pool } = await serveChat(model.generate, { maxLength: 500 })
    const first = open()
    const sent = first.sendMessage({ text: 'How are you?' })
    await first.until(({ answer }) => answer.includes('49'))
    // While it reads, the process has the whole answer for it and for others.
    const { next: closed } = watchCloses(pool)
    await first.stop()
    await Promise.all([sent, closed])
    const late = open({ messages: await load() })
    await late.resumeStream()
    expect(late.shown).toEqual(['error', '', 'A part of the answer is missing'])
    model.finish()
  })

  test('resumes an answer whose stream the server has ended before it was complete', async () => {
    const model = new TestModel().say('Fine')
    const { open, pool } = await serveChat(model.generate)
    const opened = nextOpen(pool)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    const stream = await opened
    stream.rotate()
    await sent
    // An end without an error would look like that of the answer.
    expect(chat.status).toBe('error')
    const resumed = chat.resumeStream()
    await chat.until(({ status }) => status === 'streaming')
    model.say(', thanks').finish()
    await resumed
    expect(chat.shown).toEqual(['ready', 'Fine, thanks'])
  })

  test('is refused by a pool that is closing, and does not take that for an answer', async () => {
    const { open, pool } = await serveChat(new TestModel().say('Fine').finish().generate)
    await pool.close()
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['error', '', 'The event stream is draining; try again later'])
  })

  test('gets an answer of 10,000 deltas', async () => {
    const deltas = Array.from({ length: 10_000 }, (_, i) => `${i} `)
    const model = new TestModel().say(...deltas.slice(0, 5000))
    const { open, load } = await serveChat(model.generate)
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer.endsWith('4999 '))
    const late = open({ messages: await load() })
    const resumed = late.resumeStream()
    model.say(...deltas.slice(5000)).finish()
    await Promise.all([sent, resumed])
    expect(chat.answer).toBe(deltas.join(''))
    expect(late.answer).toBe(chat.answer)
  })
})

describe('streamText() of the AI SDK as the producer', () => {
  /** A model of the SDK's own that says these deltas, and after them nothing until it is aborted. */
  const modelOf = (deltas: string[], isEndless = false) =>
    new MockLanguageModelV3({
      doStream: async ({ abortSignal }) => {
        const chunks = [
          { type: 'text-start' as const, id: '1' },
          ...deltas.map(delta => ({ type: 'text-delta' as const, id: '1', delta })),
          { type: 'text-end' as const, id: '1' },
          {
            type: 'finish' as const,
            finishReason: { unified: 'stop' as const, raw: undefined },
            usage: {
              inputTokens: { total: 1, noCache: 1, cacheRead: undefined, cacheWrite: undefined },
              outputTokens: { total: 1, text: 1, reasoning: undefined },
            },
          },
        ]
        if (!isEndless) return { stream: simulateReadableStream({ chunks }) }
        const stream = new ReadableStream({
          start(controller) {
            for (const chunk of chunks.slice(0, -2)) controller.enqueue(chunk)
            abortSignal?.addEventListener('abort', () => controller.error(abortSignal.reason))
          },
        })
        return { stream }
      },
    })

  // Without it the SDK writes the error to the console.
  const onError = () => {}

  const generateBy = (model: MockLanguageModelV3): Generate =>
    async function* (messages, abortSignal) {
      const prompt = await convertToModelMessages(messages)
      const answer = streamText({ model, messages: prompt, abortSignal, maxRetries: 0, onError })
      yield* answer.toUIMessageStream({ sendStart: false, onError: () => 'No model is available' })
    }

  test('is read to its end', async () => {
    const { open } = await serveChat(generateBy(modelOf(['Fine', ', ', 'thanks'])))
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['ready', 'Fine, thanks'])
  })

  test('is stopped', async () => {
    const model = modelOf(['Fine'], true)
    const { open, stop } = await serveChat(generateBy(model))
    const chat = open()
    const sent = chat.sendMessage({ text: 'How are you?' })
    await chat.until(({ answer }) => answer === 'Fine')
    const [call] = model.doStreamCalls
    expect(await stop()).toBe(202)
    await sent
    expect(chat.shown).toEqual(['ready', 'Fine'])
    expect(call?.abortSignal?.aborted).toBe(true)
  })

  test('says itself that its model has failed', async () => {
    const model = new MockLanguageModelV3({
      doStream: async () => {
        throw new Error('key 1234 is over its quota')
      },
    })
    const { open } = await serveChat(generateBy(model))
    const chat = open()
    await chat.sendMessage({ text: 'How are you?' })
    expect(chat.shown).toEqual(['error', '', 'No model is available'])
  })
})
