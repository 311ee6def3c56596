/** The clients of runs: each reads one, over a route of docs/answers.md, to which the scenarios append. */
import Router from '@koa/router'
import { Client as LangGraph } from '@langchain/langgraph-sdk'
import { DefaultChatTransport, type UIMessageChunk } from 'ai'
import type Koa from 'koa'
import { type Run, type RunAppendable, type RunStreamOptions, Runs } from 'koa-sse-pool/runs'
import OpenAI, { APIConnectionError, APIError } from 'openai'
import { importSnippet } from '../helpers/run-snippets.js'
import type { Start } from './behaviours.js'
import type { Client } from './play.js'
import type { Source, World } from './world.js'

const ID = 'thread:run'

const { joinStreamRoutes } = (await importSnippet('docs/answers.md', 'langgraph.js')) as {
  joinStreamRoutes(router: Router, app: { runs: Readers }): void
}

/** What routes need of runs. */
interface Readers {
  get: Runs['get']
  stream(options: RunStreamOptions): Koa.Middleware
}

/** A run whose events are those that the scenario sends, and whose reader is the client `ada`. */
async function runSource(
  world: World,
  middlewareOf: (runs: Readers) => Koa.Middleware,
): Promise<Source> {
  const { pool, kept, route } = world
  // Less than what the ten events of a scenario have, whatever the format is.
  const maxLength = kept === undefined ? undefined : 20 * kept
  // The lease is longer than a busy machine may keep this process from renewing it.
  const runs = new Runs({ pool, maxLength, lease: 120_000 })
  let end = () => {}
  const isOver = new Promise<void>(resolve => {
    end = resolve
  })
  const run = await new Promise<Run<RunAppendable>>((resolve, reject) => {
    const produce = (begun: Run<RunAppendable>) => {
      resolve(begun)
      return isOver
    }
    runs.start(ID, produce).catch(reject)
  })
  const identify = (ctx: Koa.Context) =>
    world.refuses ? ctx.throw(401) : { id: String(ctx.query.id ?? 'ada') }
  return {
    middleware: middlewareOf({
      get: id => runs.get(id),
      stream: options => runs.stream({ identify, ...route, ...options }),
    }),
    isConnected: () => pool.has('ada'),
    send: event => run.append(event),
    end,
    close: () => runs.close({ timeout: 0 }),
  }
}

const formatted = (format: 'openai' | 'ui-messages') => (world: World) =>
  runSource(world, runs => {
    const stream = runs.stream({ id: () => ID, format })
    // Not the `sse()` that comes next.
    return ctx => stream(ctx, async () => {})
  })

/** Reads an answer, from its beginning, and yields its texts. */
type Read = (world: World, signal: AbortSignal) => AsyncIterable<string>

/** The client's error says that asking again would change nothing. */
class Final extends Error {}

/** A part of the answer is missing, says the client's error. */
class Gap extends Final {}

/** As the client is: it reads one answer. */
function readOnce(read: Read): Start {
  return async world => {
    const left = new AbortController()
    const show = async () => {
      for await (const text of read(world, left.signal)) world.show('message', text)
    }
    show().then(world.end, world.end)
    return () => left.abort()
  }
}

const AGAIN = 'the app asks again after an error, and skips what it has'

/** As an app can do it: an answer can be read as often as one likes. */
function readAgain(read: Read): Start {
  return async world => {
    const left = new AbortController()
    let count = 0
    const show = async () => {
      let index = 0
      for await (const text of read(world, left.signal)) {
        if (index++ < count) continue
        count += 1
        world.show('message', text)
      }
    }
    const follow = async () => {
      while (!left.signal.aborted) {
        try {
          return await show()
        } catch (error) {
          if (error instanceof Gap) world.show('sse.gap', 'trimmed')
          if (error instanceof Final) return undefined
          await new Promise(resolve => setTimeout(resolve, 50))
        }
      }
    }
    void follow().then(world.end)
    return () => left.abort()
  }
}

const MISSING = 'A part of the answer is missing'

async function* readByOpenAi({ origin }: World, signal: AbortSignal): AsyncGenerator<string> {
  // Not `completions.create()`, because the worlds have one path. That function calls this one.
  const client = new OpenAI({ baseURL: origin, apiKey: 'none' })
  type Chunks = AsyncIterable<OpenAI.ChatCompletionChunk>
  try {
    const chunks = (await client.get('/events', { stream: true, signal })) as Chunks
    for await (const { choices } of chunks) yield choices[0]?.delta.content ?? ''
  } catch (error) {
    if (!(error instanceof APIError) || error instanceof APIConnectionError) throw error
    throw error.message.includes(MISSING) ? new Gap() : new Final()
  }
}

async function* readByAiSdk({ origin }: World, signal: AbortSignal): AsyncGenerator<string> {
  let status = 0
  const transport = new DefaultChatTransport({
    prepareReconnectToStreamRequest: () => ({ api: `${origin}/events` }),
    async fetch(input: RequestInfo | URL, init?: RequestInit) {
      const response = await fetch(input, init)
      status = response.status
      return response
    },
  })
  const chunks = await transport
    .reconnectToStream({ chatId: 'chat', abortSignal: signal })
    .catch(error => {
      throw status === 401 ? new Final() : error
    })
  if (chunks === null) return
  // The SDK's type is that of browsers, which lacks what Node's streams have.
  for await (const chunk of chunks as typeof chunks & AsyncIterable<UIMessageChunk>) {
    if (chunk.type === 'text-delta') yield chunk.delta
    if (chunk.type === 'error') throw chunk.errorText === MISSING ? new Gap() : new Final()
  }
}

/** Unlike the others it reconnects by itself. */
const startLangGraph: Start = async world => {
  const left = new AbortController()
  const client = new LangGraph({ apiUrl: world.origin, apiKey: null })
  const show = async () => {
    const { signal } = left
    for await (const { event, data } of client.runs.joinStream('thread', 'run', { signal })) {
      const { content } = (data ?? {}) as { content?: string }
      if (content !== undefined) world.show('message', content)
      else if (event === 'sse.gap') world.show(event, JSON.stringify(data))
    }
  }
  show().then(world.end, world.end)
  return () => left.abort()
}

export function runClients(versionOf: (name: string) => string): Client[] {
  return [
    {
      name: `openai ${versionOf('openai')}, a run`,
      start: readOnce(readByOpenAi),
      apps: { [AGAIN]: readAgain(readByOpenAi) },
      world: {
        source: formatted('openai'),
        encode: content => JSON.stringify({ choices: [{ index: 0, delta: { content } }] }),
      },
    },
    {
      name: `ai ${versionOf('ai')}, a run`,
      start: readOnce(readByAiSdk),
      apps: { [AGAIN]: readAgain(readByAiSdk) },
      world: {
        source: formatted('ui-messages'),
        encode: delta => JSON.stringify({ type: 'text-delta', id: 'text', delta }),
      },
    },
    {
      name: `@langchain/langgraph-sdk ${versionOf('@langchain/langgraph-sdk')}, a run`,
      start: startLangGraph,
      world: {
        path: '/threads/thread/runs/run/stream',
        encode: content => JSON.stringify({ content }),
        source: world =>
          runSource(world, runs => {
            const router = new Router()
            joinStreamRoutes(router, { runs })
            return router.routes() as Koa.Middleware
          }),
      },
    },
  ]
}
