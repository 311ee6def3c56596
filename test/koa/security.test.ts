import http from 'node:http'
import Koa3 from 'koa'
import { type RouteOptions, sse } from 'koa-sse-pool'
import Koa2 from 'koa2'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Handler, serveApp } from '../helpers/app.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
})

const ALLOWED = 'https://app.example'

describe('allowedOrigins', () => {
  test.each<[string, Record<string, string>]>([
    ['another origin', { origin: 'https://evil.example' }],
    ['the opaque origin', { origin: 'null' }],
    ['a longer host', { origin: 'https://app.example.evil.example' }],
    ['a host with a prefix', { origin: 'https://evil-app.example' }],
    ['a subdomain', { origin: 'https://x.app.example' }],
    ['another scheme', { origin: 'http://app.example' }],
    ['another port', { origin: 'https://app.example:8443' }],
    ['other letters', { origin: 'https://APP.example' }],
    ['the origin with a path', { origin: 'https://app.example/' }],
    ['cross-site without an origin', { 'sec-fetch-site': 'cross-site' }],
    ['same-site without an origin', { 'sec-fetch-site': 'same-site' }],
    [
      'another origin that is same-site',
      { origin: 'https://x.example', 'sec-fetch-site': 'same-site' },
    ],
    ['the opaque origin, cross-site', { origin: 'null', 'sec-fetch-site': 'cross-site' }],
    [
      'what looks like this host, cross-site',
      { origin: 'http://127.0.0.1', 'sec-fetch-site': 'cross-site' },
    ],
  ])('refuses %s with 403 before anything is registered (fault 54)', async (_, headers) => {
    const pool = testPool()
    const id = vi.fn(() => 'ada')
    const handler = vi.fn()
    const { origin, errors } = await serveApp(sse({ pool, id, allowedOrigins: [ALLOWED] }), handler)
    const answer = await request(origin).get('/').set(headers).expect(403)
    expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
    expect(id).not.toHaveBeenCalled()
    expect(handler).not.toHaveBeenCalled()
    expect(errors).toEqual([])
    expect(pool.stats()).toMatchObject({ opened: 0, refused: { origin: 1 } })
  })

  test('also refuses to resume or to end a stream for another origin (fault 54)', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins: [ALLOWED] })
    for (const id of ['sse.end', '1-abc']) {
      const headers = { origin: 'https://evil.example', 'Last-Event-ID': id }
      await request(origin).get('/').set(headers).expect(403)
    }
  })

  test.each<[string, Record<string, string>]>([
    ['without any of the headers, as from a server', {}],
    ['of the same origin', { 'sec-fetch-site': 'same-origin' }],
    ["of the user's own navigation", { 'sec-fetch-site': 'none' }],
  ])('admits a request %s (fault 54)', async (_, headers) => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins: [ALLOWED] })
    const client = await connect(origin, '/', { headers })
    expect(client.status).toBe(200)
    expect(client.headers).not.toHaveProperty('access-control-allow-origin')
  })

  // `ctx.origin` means different things in Koa 3 and Koa 2.
  test.each([
    ['3', Koa3],
    ['2.16', Koa2],
  ])('recognizes an old browser by its Origin, on Koa %s (fault 54)', async (_, Koa) => {
    const app = new Koa()
    app.use(sse({ pool: testPool(), allowedOrigins: [ALLOWED] }))
    app.silent = true
    const { origin } = await listen(http.createServer(app.callback()))
    expect((await connect(origin, '/', { headers: { origin } })).status).toBe(200)
    const evil = { origin: 'https://evil.example' }
    expect((await connect(origin, '/', { headers: evil })).status).toBe(403)
  })

  test('checks no origin if it is not set (fault 54)', async () => {
    const { origin } = await serveStreams({ pool: testPool() })
    const headers = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    const client = await connect(origin, '/', { headers })
    expect(client.status).toBe(200)
    // Without this header the browser hides the response from the page.
    expect(client.headers).not.toHaveProperty('access-control-allow-origin')
  })

  test.each([
    ['by list', [ALLOWED, 'https://other.example']],
    ['by function', (origin: string) => origin === ALLOWED],
  ])('names an allowed origin (%s) exactly, with Vary (fault 55)', async (_, allowedOrigins) => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
    const headers = { origin: ALLOWED, 'sec-fetch-site': 'cross-site' }
    const client = await connect(origin, '/', { headers })
    expect(client.status).toBe(200)
    expect(client.headers['access-control-allow-origin']).toBe(ALLOWED)
    expect(client.headers['access-control-allow-credentials']).toBe('true')
    expect(client.headers.vary).toBe('Origin')
  })

  test('makes responses vary by Origin even without one, and at the end of a stream (fault 55)', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins: [ALLOWED] })
    expect((await connect(origin)).headers.vary).toBe('Origin')
    const end = { Origin: ALLOWED, 'Last-Event-ID': 'sse.end' }
    const { headers } = await request(origin).get('/').set(end).expect(204)
    expect(headers).toMatchObject({ vary: 'Origin', 'access-control-allow-origin': ALLOWED })
  })
})

describe('error bodies', () => {
  const secret = () => {
    throw new Error('password=hunter2')
  }

  test.each<[string, RouteOptions, Handler?]>([
    ['id fails', { id: secret }],
    ['id rejects', { id: async () => secret() }],
    ['channels fails', { channels: secret }],
    ['channels returns no array', { channels: () => 'hunter2' as never }],
    ['allowedOrigins fails', { allowedOrigins: secret }],
    ['the handler fails', {}, secret],
    ['it is mounted twice', {}, sse() as Handler],
  ])('reveal nothing when %s (fault 57)', async (_, options, handler = () => {}) => {
    const pool = testPool()
    const { origin, errors } = await serveApp(sse({ pool, ...options }), handler)
    const answer = await request(origin).get('/').set('Origin', 'https://x.example').expect(500)
    expect(answer.text).toBe('Internal Server Error')
    expect(errors).toHaveLength(1)
    expect(pool.connections).toBe(0)
  })

  test.each<[number, string, Record<string, string>]>([
    [406, '/', { accept: 'text/html' }],
    [400, '/?id=%00<script>', {}],
    [400, '/?channel=%00', {}],
    [403, '/', { origin: 'https://evil.example' }],
    [503, '/?id=x', {}],
  ])(
    'of %i are one plain line without stacks and paths (fault 57)',
    async (status, path, headers) => {
      const pool = testPool({ maxClients: status === 503 ? 1 : 2 })
      const { origin } = await serveStreams({
        pool,
        allowedOrigins: [ALLOWED],
        channels: ctx => [ctx.query.channel ?? 'none'].flat(),
      })
      await connect(origin, '/?id=first')
      const answer = await request(origin).get(path).set(headers).expect(status)
      expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8')
      expect(answer.text).toMatch(/^[^\n]{1,200}$/)
      expect(answer.text).not.toMatch(/node_modules|\.[jt]s\b| at |Error:/)
    },
  )
})

describe('an authorization', () => {
  test.each([
    ['', (isValid: () => boolean) => isValid],
    [' and checked asynchronously', (isValid: () => boolean) => async () => isValid()],
  ])('that is revoked%s closes the stream within a heartbeat (fault 58)', async (_, of) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const revoked = new Set<unknown>()
    const pool = testPool({
      pingInterval: 1000,
      authorize: stream => of(() => !revoked.has(stream.state.token))(),
    })
    const { origin } = await serveStreams(
      {
        pool,
        id: ctx => (revoked.has(ctx.query.token) ? ctx.throw(401) : String(ctx.query.token)),
      },
      ctx => {
        ctx.sse.state.token = ctx.query.token
      },
    )
    const ada = await connect(origin, '/?token=ada')
    const bob = await connect(origin, '/?token=bob')
    await pool.broadcast('before')
    await ada.until(({ data }) => data.includes('before'))

    revoked.add('ada')
    vi.advanceTimersByTime(1000)
    expect(await ada.ended).toBe(true)
    await pool.broadcast('after')
    await bob.until(({ data }) => data.includes('after'))
    expect(ada.data).toEqual(['before'])
    // The client may reconnect with a new token, so it gets no close event.
    expect(ada.text).not.toContain('sse.end')
    expect(pool.stats().closed.expired).toBe(1)

    const headers = { 'Last-Event-ID': ada.lastEventId }
    await request(origin).get('/?token=ada').set(headers).expect(401)
    expect(pool.connections).toBe(1)
  })

  test('is checked even without heartbeats (fault 58)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({ pingInterval: false, authorize: () => false })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin)
    vi.advanceTimersByTime(15_000)
    expect(await client.ended).toBe(true)
  })

  test('that takes long to check delays neither its stream nor others (fault 58)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({ authorize: () => new Promise<boolean>(() => {}) })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin)
    const beats = () => client.events.filter(({ event }) => event === 'sse.cursor').length
    await client.until(() => beats() === 1)
    vi.advanceTimersByTime(15_000)
    await client.until(() => beats() === 2)
  })
})
