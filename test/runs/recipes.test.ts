/** The recipes of docs/answers.md: other packages' interfaces over runs. */
import Router from '@koa/router'
import { Client } from '@langchain/langgraph-sdk'
import type Koa from 'koa'
import type { ClientPool } from 'koa-sse-pool'
import { memoryRuns, type Run, type RunAppendable, type RunStore, Runs } from 'koa-sse-pool/runs'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred, serveApp } from '../helpers/app.js'
import { importSnippet } from '../helpers/run-snippets.js'
import { testPool } from '../helpers/server.js'

const PAGE = 'docs/answers.md'

type Text = Promise<ReadableStream<string> | null | undefined>

const { createResumableStreamContext: createContext } = (await importSnippet(
  PAGE,
  'resumable.js',
)) as {
  createResumableStreamContext(options: { runs: Runs }): {
    hasExistingStream(id: string): Promise<null | true | 'DONE'>
    resumableStream(id: string, make: () => ReadableStream<string>, skip?: number): Text
    resumeExistingStream(id: string, skip?: number): Text
  }
}

const { joinStreamRoutes } = (await importSnippet(PAGE, 'langgraph.js')) as {
  joinStreamRoutes(router: Router, app: { runs: Runs }): void
}

function testRuns(store: RunStore = memoryRuns(), pool = testPool() as ClientPool) {
  pool.on('error', () => {})
  const runs = new Runs({ pool, store })
  onTestFinished(() => runs.close({ timeout: 0 }))
  return runs
}

describe('the functions of resumable-stream', () => {
  /** A stream that the test writes to. */
  function source() {
    const { readable, writable } = new TransformStream<string, string>(
      undefined,
      new CountQueuingStrategy({ highWaterMark: 100 }),
      new CountQueuingStrategy({ highWaterMark: 100 }),
    )
    const writer = writable.getWriter()
    return {
      make: vi.fn(() => readable),
      write: (text: string) => writer.write(text),
      close: () => writer.close(),
      fail: (error: Error) => writer.abort(error),
    }
  }

  async function textOf(stream: ReadableStream<string> | null | undefined): Promise<string> {
    if (!stream) throw new Error('There is no stream')
    let text = ''
    const reader = stream.getReader()
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value
    return text
  }

  test('make a stream once, and give it to everyone from its beginning', async () => {
    const context = createContext({ runs: testRuns() })
    const { make, write, close } = source()
    const first = await context.resumableStream('one', make)
    await write('1\n')
    const second = await context.resumableStream('one', make)
    await write('2\r\n')
    await close()
    const third = context.resumeExistingStream('one')
    expect(await Promise.all([textOf(first), textOf(second), third.then(textOf)])).toEqual(
      Array(3).fill('1\n2\r\n'),
    )
    expect(make).toHaveBeenCalledTimes(1)
  })

  test('continue after the characters that a client has, on another process', async () => {
    const store = memoryRuns()
    const [one, other] = [testRuns(store), testRuns(store)]
    const { make, write, close } = source()
    await createContext({ runs: one }).resumableStream('one', make)
    for (const text of ['abc', 'def', 'g']) await write(text)
    const rest = await createContext({ runs: other }).resumeExistingStream('one', 4)
    await close()
    expect(await textOf(rest)).toBe('efg')
  })

  test('tell streams that are open, done and unknown apart', async () => {
    const context = createContext({ runs: testRuns() })
    const { make, write, close } = source()
    expect(await context.hasExistingStream('one')).toBeNull()
    expect(await context.resumeExistingStream('one')).toBeUndefined()
    const stream = await context.resumableStream('one', make)
    expect(await context.hasExistingStream('one')).toBe(true)
    await write('1')
    await close()
    expect(await textOf(stream)).toBe('1')
    expect(await context.hasExistingStream('one')).toBe('DONE')
    expect(await context.resumeExistingStream('one')).toBeNull()
    expect(await context.resumableStream('one', make)).toBeNull()
    expect(make).toHaveBeenCalledTimes(1)
  })

  test('keep streams apart', async () => {
    const context = createContext({ runs: testRuns() })
    const [one, two] = [source(), source()]
    const streams = [
      await context.resumableStream('one', one.make),
      await context.resumableStream('two', two.make),
    ]
    await Promise.all([one.write('1'), two.write('2'), one.close(), two.close()])
    expect(await Promise.all(streams.map(textOf))).toEqual(['1', '2'])
  })

  test('complete a stream whose first reader has left', async () => {
    const context = createContext({ runs: testRuns() })
    const { make, write, close } = source()
    const first = await context.resumableStream('one', make)
    await write('1')
    await first?.cancel()
    const second = await context.resumeExistingStream('one')
    await write('2')
    await close()
    expect(await textOf(second)).toBe('12')
  })

  test('can be left while the stream is quiet', async () => {
    const context = createContext({ runs: testRuns() })
    const stream = await context.resumableStream('one', source().make)
    const reader = (stream as ReadableStream<string>).getReader()
    const read = reader.read()
    await reader.cancel()
    expect(await read).toEqual({ done: true, value: undefined })
  })

  test('pass an error on', async () => {
    const context = createContext({ runs: testRuns() })
    const { make, write, fail } = source()
    const stream = await context.resumableStream('one', make)
    await write('1')
    await fail(new Error('secret'))
    await expect(textOf(stream)).rejects.toThrow('The stream has ended: failed')
  })
})

describe('joinStream() of LangGraph', () => {
  async function serveGraph() {
    const pool = testPool({ heartbeat: 'comment' }) as ClientPool
    const runs = testRuns(memoryRuns(), pool)
    const router = new Router()
    joinStreamRoutes(router, { runs })
    const { origin, cut } = await serveApp(router.routes() as Koa.Middleware)
    const begun = deferred<Run<RunAppendable>>()
    const end = deferred()
    await runs.start('thread:run', async run => {
      begun.resolve(run)
      await end.promise
    })
    const client = new Client({ apiUrl: origin, apiKey: null, callerOptions: { maxRetries: 0 } })
    const join = (options?: Parameters<typeof client.runs.joinStream>[2]) =>
      client.runs.joinStream('thread', 'run', options)
    const { append } = await begun.promise
    const say = (content: string) => append({ event: 'values', data: { content } })
    return {
      pool,
      runs,
      client,
      run: begun.promise,
      join,
      say,
      end: end.resolve,
      fail: end.reject,
      cut,
    }
  }

  const shown = ({ event, data }: { event: string; data: unknown }) => [event, data]

  async function partsOf(parts: ReturnType<Client['runs']['joinStream']>) {
    const all: { id?: string; event: string; data: unknown }[] = []
    for await (const part of parts) all.push(part)
    return all
  }

  test('reads a run from its beginning to its end', async () => {
    const { join, say, end } = await serveGraph()
    const parts = partsOf(join())
    await say('Fine')
    await say('thanks')
    end()
    expect((await parts).map(shown)).toEqual([
      ['values', { content: 'Fine' }],
      ['values', { content: 'thanks' }],
      ['end', { state: 'done' }],
    ])
  })

  test('resumes after the last event id, also when the run has ended', async () => {
    const { join, say, end } = await serveGraph()
    await say('Fine')
    await say('thanks')
    const before: { id?: string }[] = []
    for await (const part of join()) {
      before.push(part)
      if (before.length === 2) break
    }
    end()
    const [first, second] = before.map(({ id }) => id as string)
    expect((await partsOf(join({ lastEventId: first as string }))).map(shown)).toEqual([
      ['values', { content: 'thanks' }],
      ['end', { state: 'done' }],
    ])
    const [last] = await partsOf(join({ lastEventId: second as string }))
    expect(last).toMatchObject({ event: 'end', data: { state: 'done' } })
    await expect(partsOf(join({ lastEventId: last?.id as string }))).rejects.toThrow(
      /^Expected response body/,
    )
    expect(await partsOf(join({ lastEventId: '-1' }))).toHaveLength(3)
  })

  test('reconnects by itself after a cut and after a deploy, and misses nothing', async () => {
    const { join, say, end, cut, pool } = await serveGraph()
    const third = deferred()
    let opened = 0
    pool.on('open', stream => {
      opened += 1
      if (opened === 2) stream.rotate()
      if (opened === 3) third.resolve()
    })
    await say('1')
    const got: unknown[] = []
    const reading = (async () => {
      for await (const part of join()) {
        if (got.push(shown(part)) > 1) continue
        cut()
        await say('2')
      }
    })()
    await third.promise
    end()
    await reading
    expect(got).toEqual([
      ['values', { content: '1' }],
      ['values', { content: '2' }],
      ['end', { state: 'done' }],
    ])
  })

  test('sees a run that has failed or was stopped', async () => {
    const one = await serveGraph()
    const failed = partsOf(one.join())
    const { append } = await one.run
    await append({ event: 'error', data: { error: 'Error', message: 'No model is available' } })
    one.fail(new Error('secret'))
    expect((await failed).map(shown)).toEqual([
      ['error', { error: 'Error', message: 'No model is available' }],
      ['end', { state: 'failed' }],
    ])
    const other = await serveGraph()
    const stopped = partsOf(other.join())
    await other.runs.stop('thread:run')
    expect((await stopped).map(shown)).toEqual([['end', { state: 'stopped' }]])
  })

  test('does not stop the run by leaving, and is refused for an unknown one', async () => {
    const { client, join, say, runs } = await serveGraph()
    await say('1')
    for await (const _ of join()) break
    expect(await runs.get('thread:run')).toMatchObject({ state: 'open' })
    await expect(partsOf(client.runs.joinStream('thread', 'other'))).rejects.toMatchObject({
      status: 404,
    })
  })
})
