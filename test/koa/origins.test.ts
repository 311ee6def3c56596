/** Which sites may connect, and what their pages can read. */
import { once } from 'node:events'
import http2 from 'node:http2'
import Router from '@koa/router'
import Koa, { type Middleware } from 'koa'
import { type RouteOptions, sse } from 'koa-sse-pool'
import request from 'supertest'
import { describe, expect, test, vi } from 'vitest'
import { type Handler, serveApp } from '../helpers/app.js'
import { session2 } from '../helpers/http2.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

const ALLOWED = 'https://app.example'
const allowedOrigins = [ALLOWED]
const fromAllowed = { Origin: ALLOWED, 'Sec-Fetch-Site': 'cross-site' }
const CORS = {
  'access-control-allow-origin': ALLOWED,
  'access-control-allow-credentials': 'true',
  vary: expect.stringContaining('Origin'),
}

describe('refusals', () => {
  test.each<[number, string, RouteOptions, Record<string, string>, Handler?]>([
    [400, 'a wrong id', { id: () => '' }, {}],
    [401, 'a refusal by id', { id: ctx => ctx.throw(401) }, {}],
    [404, 'a refusal by the handler', {}, {}, ctx => ctx.throw(404)],
    [406, 'another type', {}, { Accept: 'text/html' }],
    [429, 'a stream too many', { id: () => 'ada' }, {}],
    [503, 'a full pool', {}, {}],
    [500, 'an error of the handler', {}, {}, () => Promise.reject(new Error('no'))],
  ])(
    'of %i for %s carry the CORS headers, so that the page can read the status (fault 85)',
    async (status, _, options, headers, handler = () => {}) => {
      const pool = testPool({
        ...(status === 503 && { maxClients: 1 }),
        ...(status === 429 && { maxStreamsPerClient: 1, onDuplicate: 'reject' }),
      })
      const { origin } = await serveApp(sse({ pool, allowedOrigins, ...options }), handler)
      if (status === 503 || status === 429) await connect(origin)
      const answer = await request(origin)
        .get('/')
        .set({ ...fromAllowed, ...headers })
      expect(answer.status).toBe(status)
      expect(answer.headers).toMatchObject(CORS)
      if (status === 503) expect(answer.headers['retry-after']).toMatch(/^\d+$/)
    },
  )

  test('keep the headers that the error has', async () => {
    const { origin } = await serveApp(
      sse({
        pool: testPool(),
        allowedOrigins,
        id: ctx => ctx.throw(401, { headers: { 'WWW-Authenticate': 'Bearer' } }),
      }),
    )
    const { headers } = await request(origin).get('/').set(fromAllowed).expect(401)
    expect(headers).toMatchObject({ ...CORS, 'www-authenticate': 'Bearer' })
  })

  test('of another origin carry only Vary (fault 85)', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
    const { headers } = await request(origin)
      .get('/')
      .set('Origin', 'https://evil.example')
      .expect(403)
    expect(headers.vary).toBe('Origin')
    expect(headers).not.toHaveProperty('access-control-allow-origin')
  })
})

describe('a preflight', () => {
  const preflight = (origin: string, path = '/') =>
    request(origin).options(path).set({
      'Access-Control-Request-Method': 'GET',
      'Access-Control-Request-Headers': 'authorization,x-custom',
    })

  test('of an allowed origin may ask for any header (fault 86)', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
    const { headers } = await preflight(origin).set(fromAllowed).expect(204)
    expect(headers).toMatchObject({
      ...CORS,
      'access-control-allow-headers': 'authorization,x-custom',
      'access-control-allow-methods': 'GET, HEAD, POST',
      vary: 'Origin, Access-Control-Request-Headers',
    })
  })

  test('reaches a route of @koa/router that is mounted as documented (fault 86)', async () => {
    const handler = vi.fn()
    const stream = sse({ pool: testPool(), allowedOrigins })
    const router = new Router().get('/events', stream, handler).options('/events', stream)
    const { origin } = await serveApp(router.routes() as Middleware)
    const { headers } = await preflight(origin, '/events').set(fromAllowed).expect(204)
    expect(headers['access-control-allow-headers']).toBe('authorization,x-custom')
    expect(handler).not.toHaveBeenCalled()
  })

  test('of another origin is refused (fault 86)', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
    const { headers } = await preflight(origin).set('Origin', 'https://evil.example').expect(403)
    expect(headers).not.toHaveProperty('access-control-allow-headers')
  })
})

test.each<[string, RouteOptions, Record<string, string>, string, string | undefined]>([
  [
    'without allowedOrigins',
    {},
    { 'Access-Control-Request-Headers': 'x-token' },
    'Content-Type, Last-Event-ID',
    undefined,
  ],
  [
    'that asks for no headers',
    { allowedOrigins },
    fromAllowed,
    'Content-Type, Last-Event-ID',
    'Origin',
  ],
  [
    'that asks for headers',
    { allowedOrigins },
    { ...fromAllowed, 'Access-Control-Request-Headers': 'x-token' },
    'x-token',
    'Origin, Access-Control-Request-Headers',
  ],
])('a preflight %s is told which headers it may send', async (_, options, sent, allowed, vary) => {
  const { origin } = await serveStreams({ pool: testPool(), ...options })
  const { headers } = await request(origin).options('/').set(sent).expect(204)
  expect(headers['access-control-allow-headers']).toBe(allowed)
  expect(headers.vary).toBe(vary)
})

test('a Referer proves nothing to a browser that sends Sec-Fetch-Site', async () => {
  const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
  const { status } = await request(origin)
    .get('/')
    .set({ Referer: `${ALLOWED}/page`, 'Sec-Fetch-Site': 'cross-site' })
  expect(status).toBe(403)
})

test.each([
  ['app.example:8443', 200],
  ['evil.example', 403],
])('over HTTP/2 the host name is that of the URL: %s is answered %i', async (authority, status) => {
  const app = new Koa()
  app.use(sse({ pool: testPool(), allowedHosts: ['app.example'] }))
  const { origin } = await listen(http2.createServer(app.callback()))
  const stream = session2(origin).request({ ':path': '/', ':authority': authority })
  const [headers] = await once(stream, 'response')
  expect(headers[':status']).toBe(status)
  stream.close()
})

describe('over plain HTTP, where browsers send no Sec-Fetch-Site,', () => {
  test.each([
    ['of another site', 403, () => 'http://evil.example/page'],
    ['that begins like this site', 403, () => 'http://127.0.0.1.evil.example/'],
    ['of this site', 200, (origin: string) => `${origin}/page?x=1`],
    ['of this site over HTTPS', 200, (origin: string) => origin.replace('http', 'https')],
    ['of an allowed origin', 200, () => `${ALLOWED}/page`],
    ['that is no URL', 200, () => 'about'],
    ['without an origin', 403, () => 'data:text/html,x'],
  ])(
    'a request without Origin but with a Referer %s gets %i (fault 100)',
    async (_, status, referer) => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool, allowedOrigins })
      const client = await connect(origin, '/', { headers: { Referer: referer(origin) } })
      expect(client.status).toBe(status)
      expect(client.headers).not.toHaveProperty('access-control-allow-origin')
      expect(pool.stats().refused.origin).toBe(status === 403 ? 1 : 0)
    },
  )

  test("an image of another site does not end the user's own stream (faults 100, 111)", async () => {
    const pool = testPool({ maxStreamsPerClient: 1, onDuplicate: 'replace' })
    const { origin } = await serveStreams({ pool, allowedOrigins: [] })
    const client = await connect(origin, '/?id=ada')
    const image = { Referer: 'http://evil.example/', Accept: 'image/*,*/*;q=0.8' }
    await request(origin).get('/?id=ada').set(image).expect(403)
    await pool.send('ada', 'still here')
    await client.until(({ data }) => data.includes('still here'))
  })
})

test.each<[string, (origin: string) => string, number]>([
  ['a foreign Origin', () => 'https://evil.example', 403],
  ['an opaque Origin', () => 'null', 403],
  ['its own Origin', origin => origin, 200],
  ['an allowed Origin', () => ALLOWED, 200],
])('Sec-Fetch-Site: none with %s (fault 111)', async (_, of, status) => {
  const { origin } = await serveStreams({ pool: testPool(), allowedOrigins })
  const headers = { 'Sec-Fetch-Site': 'none', Origin: of(origin) }
  expect((await connect(origin, '/', { headers })).status).toBe(status)
})

describe('allowedHosts', () => {
  test.each<[string, number, Record<string, string>]>([
    ['app.example', 200, {}],
    ['APP.example:3000', 200, {}],
    ['[::1]:3000', 200, {}],
    ['evil.example', 403, { 'Sec-Fetch-Site': 'same-origin' }],
    ['app.example.evil.example', 403, {}],
    ['evil.example', 403, { 'X-Forwarded-Host': 'app.example' }],
  ])('answers a request for the host %s with %i (fault 111)', async (host, status, headers) => {
    const pool = testPool()
    const { origin, app } = await serveStreams({
      pool,
      allowedOrigins: [],
      allowedHosts: ['app.example', '[::1]'],
    })
    app.proxy = true
    const client = await connect(origin, '/', { headers: { Host: host, ...headers } })
    expect(client.status).toBe(status)
    expect(pool.stats().refused.origin).toBe(status === 403 ? 1 : 0)
  })

  test('without allowedOrigins admits pages of every site, and lets none of them read the response', async () => {
    const { origin } = await serveStreams({ pool: testPool(), allowedHosts: ['127.0.0.1'] })
    const client = await connect(origin, '/', { headers: fromAllowed })
    expect(client.status).toBe(200)
    expect(client.headers).not.toHaveProperty('access-control-allow-origin')
    expect(client.headers).not.toHaveProperty('vary')
  })

  test.each([
    [['https://app.example']],
    [['app.example:3000']],
    [['app.example/']],
    [['']],
    ['app.example'],
  ])('refuses %j when the app starts (fault 111)', allowedHosts => {
    expect(() => sse({ allowedHosts: allowedHosts as string[] })).toThrow(
      'option "allowedHosts" must be an array of host names',
    )
  })
})

test('origins that are not checked get no headers', async () => {
  const { origin } = await serveApp(sse({ pool: testPool(), id: ctx => ctx.throw(401) }))
  const { headers } = await request(origin).get('/').set(fromAllowed).expect(401)
  expect(headers).not.toHaveProperty('vary')
})
