/** What clients are told that get no stream. */
import http from 'node:http'
import Koa from 'koa'
import { type SseOptions, sse } from 'koa-sse-pool'
import request from 'supertest'
import { describe, expect, test } from 'vitest'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

describe('what a refusal says', () => {
  const serve = async (
    options: Partial<SseOptions>,
    poolOptions: Parameters<typeof testPool>[0] = {},
  ) => serveStreams({ pool: testPool(poolOptions), ...options } as never)

  test.each<[number, string, Partial<SseOptions>, Record<string, string>]>([
    [403, 'This host name is not served', { allowedHosts: ['app.example'] }, {}],
    [
      403,
      'This origin may not connect',
      { allowedOrigins: [] },
      { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' },
    ],
    [406, 'This resource is a text/event-stream', {}, { Accept: 'text/html' }],
    [
      401,
      'The session has expired',
      { id: undefined, identify: () => ({ id: 'ada', expiresAt: new Date(2020, 1) }) },
      {},
    ],
  ])('%i %s', async (status, text, options, headers) => {
    const { origin } = await serve(options)
    const answer = await request(origin).get('/').set(headers)
    expect([answer.status, answer.text]).toEqual([status, text])
  })

  test.each<[number, string, Parameters<typeof testPool>[0]]>([
    [503, 'The event stream is full; try again later', { maxClients: 1 }],
    [429, 'Too many streams from this address; try again later', { maxStreamsPerAddress: 1 }],
    [
      429,
      'This client has too many streams open',
      { maxStreamsPerClient: 1, onDuplicate: 'reject' },
    ],
  ])('%i %s', async (status, text, options) => {
    const { origin } = await serve({ id: () => 'ada' }, options)
    await connect(origin)
    const answer = await request(origin).get('/')
    expect([answer.status, answer.text]).toEqual([status, text])
    if (!text.endsWith('later')) return
    const delay = Number(answer.headers['retry-after'])
    expect(delay).toBeGreaterThanOrEqual(2)
    expect(delay).toBeLessThanOrEqual(10)
  })
})

test.each([
  ['a client that leaves is not', 'ERR_HTTP2_STREAM_ERROR', []],
  ['another error is', 'ERR_OTHER', ['ERR_OTHER']],
])('while a request is refused, %s reported', async (_, code, reported) => {
  const pool = testPool({ maxClients: 1 })
  const errors: unknown[] = []
  const app = new Koa()
  app.on('error', error => errors.push(error.code))
  app.use(async (ctx, next) => {
    await next()
    if (!ctx.sse) ctx.onerror(Object.assign(new Error('from the response'), { code }))
  })
  app.use(sse({ pool, overflow: 'retry' }))
  const { origin } = await listen(http.createServer(app.callback()))
  await connect(origin)
  await request(origin).get('/')
  expect(errors).toEqual(reported)
})
