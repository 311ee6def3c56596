/** What readers of a run get while its store is out of reach. */
import { EventSource } from 'eventsource'
import { SseError } from 'koa-sse-pool'
import { memoryRuns, type Run, type RunAppendable } from 'koa-sse-pool/runs'
import request from 'supertest'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred, nextOpen } from '../helpers/app.js'
import { serveRuns } from '../helpers/runs.js'

const PATIENCE = { timeout: 20_000 }
const EVENT_STREAM = 'text/event-stream; charset=utf-8'

/** A run with one event, in a store that `outage` cuts off and `recovery` brings back. */
async function serve(stream: Parameters<typeof serveRuns>[0] = {}) {
  const store = memoryRuns()
  const { get } = store
  const served = await serveRuns({ ...stream, store })
  const begun = deferred<Run<RunAppendable>>()
  const end = deferred()
  await served.runs.start('one', async run => {
    begun.resolve(run)
    await end.promise
  })
  const run = await begun.promise
  await run.append('a')
  const errors: unknown[] = []
  served.pool.on('error', error => errors.push(error))
  return {
    ...served,
    run,
    errors,
    end: end.resolve,
    outage(code: SseError['code'] = 'ERR_SSE_LOG_DOWN') {
      store.get = async () => {
        throw new SseError(code, 'connection refused')
      }
    },
    recovery() {
      store.get = get
    },
  }
}

test('a browser is told to come back, and resumes', async () => {
  // The delay that browsers are told: 2 to 10 seconds.
  vi.spyOn(Math, 'random').mockReturnValue(0)
  onTestFinished(() => void vi.restoreAllMocks())
  const { origin, pool, run, end, outage, recovery } = await serve()
  const opened = nextOpen(pool)
  const source = new EventSource(`${origin}/runs/one`)
  onTestFinished(() => source.close())
  const got: string[] = []
  source.onmessage = ({ data }) => got.push(data)
  await vi.waitUntil(() => got.length === 1, PATIENCE)
  const stream = await opened
  outage()
  // Of the empty stream.
  source.onopen = recovery
  stream.rotate()
  await run.append('b')
  end()
  await vi.waitUntil(() => got.length === 2, PATIENCE)
  expect(got).toEqual(['a', 'b'])
})

// A look-up that finds the producer gone also stores the end of the run.
test.each(['ERR_SSE_LOG_DOWN', 'ERR_SSE_LOG_UNCERTAIN'] as const)(
  'is counted as a refusal, and said once in each outage (%s)',
  async code => {
    const { origin, pool, errors, outage, recovery } = await serve()
    outage(code)
    for (let i = 0; i < 3; i++) {
      const { text } = await request(origin)
        .get('/runs/one')
        .expect(200)
        .expect('Content-Type', EVENT_STREAM)
      expect(text).toMatch(/^:store\nretry: \d+\n/)
    }
    expect(pool.stats().refused.store).toBe(3)
    expect(errors).toEqual([expect.objectContaining({ code })])
    recovery()
    await request(origin).get('/runs/none').expect(204)
    outage(code)
    await request(origin).get('/runs/one')
    expect(errors).toHaveLength(2)
  },
)

describe('a client that would not understand an empty stream gets a 503', () => {
  test.each([
    ['a long poll', { longPoll: true }],
    ['the chat of the AI SDK', { format: 'ui-messages' }],
    ['an OpenAI client', { format: 'openai' }],
  ] as const)('%s', async (_, stream) => {
    const { origin, outage } = await serve({ stream })
    outage()
    await request(origin)
      .get('/runs/one')
      .set('Accept', 'application/json')
      .expect(503, 'The store of the run is out of reach; try again later')
      .expect('Retry-After', /^\d+$/)
  })
})

test('an error of the app while it looks for the id is no outage', async () => {
  const { origin, pool } = await serve({
    stream: {
      id: () => {
        throw Object.assign(new Error('not yours'), { status: 403, expose: true })
      },
    },
  })
  await request(origin).get('/runs/one').expect(403)
  expect(pool.stats().refused.store).toBe(0)
})
