/** Streams for clients that read JSON up to a last text, such as the OpenAI SDKs: the option `done`. */
import http2 from 'node:http2'
import Koa from 'koa'
import { type ClientPool, type EventStream, sse } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { nextOpen } from '../helpers/app.js'
import { connect2, session2 } from '../helpers/http2.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
})

describe('option done', () => {
  test('sends nothing but the events of the app, comments and [DONE], so that a client can parse each as JSON (fault 81)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool()
    await pool.broadcast('old')
    const opened = nextOpen(pool)
    const { origin } = await serveStreams({ pool, done: '[DONE]' })
    const client = await connect(origin, '/', { headers: { 'Last-Event-ID': 'unknown' } })
    const stream = await opened
    const before = client.comments.length
    vi.advanceTimersByTime(15_000)
    await client.until(({ comments }) => comments.length > before)
    stream.send({ data: { token: 'a' } })
    stream.end()
    expect(await client.ended).toBe(true)
    expect(client.events).toEqual([
      { data: '{"token":"a"}', event: undefined, id: undefined },
      { data: '[DONE]', event: undefined, id: undefined },
    ])
  })

  test.each<[string, (stream: EventStream) => unknown]>([
    ['end(data)', stream => stream.end({ usage: 1 })],
    ['remove(data)', stream => stream.client.remove({ usage: 1 })],
  ])('sends the data of %s before it (fault 81)', async (_, end) => {
    const pool = testPool()
    const opened = nextOpen(pool)
    const { origin } = await serveStreams({ pool, done: '[DONE]' })
    const client = await connect(origin)
    await end(await opened)
    expect(await client.ended).toBe(true)
    expect(client.text).not.toMatch(/^(event|id):/m)
    expect(client.data).toEqual(['{"usage":1}', '[DONE]'])
  })

  test('gives a stream that is busy with direct sends no heartbeat (fault 81)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool()
    const opened = nextOpen(pool)
    const { origin } = await serveStreams({ pool, done: '[DONE]' })
    const client = await connect(origin)
    const stream = await opened
    const comments = async () => {
      stream.send('next')
      const { length } = client.data
      await client.until(({ data }) => data.length > length)
      return client.comments.length
    }
    const before = await comments()
    vi.advanceTimersByTime(15_000)
    expect(await comments()).toBe(before)
    vi.advanceTimersByTime(15_000)
    expect(await comments()).toBe(before)
    vi.advanceTimersByTime(30_000)
    expect(await comments()).toBe(before + 1)
  })

  test.each<[string, (stream: EventStream, pool: ClientPool) => unknown]>([
    ['drain', (_, pool) => pool.close()],
    ['rotated', stream => stream.rotate()],
  ])(
    'breaks off at %s, because a clean end would look like that of the answer',
    async (_, close) => {
      const pool = testPool()
      const opened = nextOpen(pool)
      const { origin } = await serveStreams({ pool, done: '[DONE]' })
      const client = await connect(origin)
      const stream = await opened
      await stream.send('half an answer')
      await client.until(({ data }) => data.includes('half an answer'))
      await close(stream, pool)
      expect(await client.ended).toBe(false)
      expect(client.data).not.toContain('[DONE]')
    },
  )

  test('ends without its last text over HTTP/2, where a reset would never reach WebKit', async () => {
    const pool = testPool()
    const app = new Koa().use(sse({ pool, done: '[DONE]' })).use(() => {})
    const { origin } = await listen(http2.createServer(app.callback()))
    const opened = nextOpen(pool)
    const { client } = await connect2(session2(origin), '/')
    const stream = await opened
    await stream.send('half an answer')
    await client.until(({ data }) => data.includes('half an answer'))
    stream.rotate()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['half an answer'])
  })

  test('breaks off when the rights of its client expire', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({ authorize: () => false })
    const { origin } = await serveStreams({ pool, done: '[DONE]' })
    const client = await connect(origin)
    vi.advanceTimersByTime(30_000)
    expect(await client.ended).toBe(false)
  })

  test.each(['reject', 'retry'] as const)(
    'answers 503 when the pool is full, and when it is closing, with overflow: %s',
    async overflow => {
      const pool = testPool({ maxClients: 1 })
      const { origin } = await serveStreams({ pool, done: '[DONE]', overflow })
      await connect(origin)
      const refused = () => request(origin).get('/').expect(503).expect('Retry-After', /^\d+$/)
      await refused()
      await pool.close()
      await refused()
    },
  )

  test.each([
    [{ resume: true }, 'drop "resume: true"'],
    [{ longPoll: true }, 'drop "done"'],
  ])('cannot be combined with %o', (options, message) => {
    expect(() => sse({ done: '[DONE]', ...options })).toThrow(message)
  })
})
