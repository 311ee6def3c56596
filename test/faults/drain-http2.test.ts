/** A pool that closes, over each protocol: everything arrives, and the server can close afterwards. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import http2, { type ClientHttp2Session } from 'node:http2'
import https from 'node:https'
import Koa from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Handler, nextOpen } from '../helpers/app.js'
import { connect, listen, TestClient, testPool } from '../helpers/server.js'

const tls = {
  key: readFileSync(new URL('../fixtures/localhost.key.pem', import.meta.url)),
  cert: readFileSync(new URL('../fixtures/localhost.cert.pem', import.meta.url)),
}
const FEW = 10

const warnings = vi.fn()

beforeEach(() => {
  process.on('warning', warnings)
})

afterEach(async () => {
  // Warnings are emitted by `process.nextTick`.
  await new Promise(resolve => setImmediate(resolve))
  process.off('warning', warnings)
  expect(warnings).not.toHaveBeenCalled()
})

function streamApp(pool: ClientPool, handler?: Handler) {
  const errors: Error[] = []
  const app = new Koa()
  app.on('error', error => errors.push(error))
  app.use(sse({ pool, id: ctx => ctx.path.slice(1) }))
  if (handler) app.use(handler as Koa.Middleware)
  return { app, errors }
}

function session2(origin: string): ClientHttp2Session {
  const session = http2.connect(origin, { ca: tls.cert })
  session.on('error', () => {})
  onTestFinished(() => session.destroy())
  return session
}

async function connect2(session: ClientHttp2Session, path: string): Promise<TestClient> {
  const stream = session.request({ ':path': path })
  stream.on('error', () => {})
  const [answer] = await once(stream, 'response')
  const complete = () => stream.readableEnded && stream.rstCode === 0
  const response = Object.defineProperties(stream, {
    statusCode: { value: answer[':status'] },
    headers: { value: answer },
    complete: { get: complete },
  })
  return new TestClient(response as unknown as IncomingMessage)
}

const HTTP2 = [
  ['HTTP/2', (app: Koa) => http2.createServer(app.callback()), 'http'],
  ['HTTP/2 with TLS', (app: Koa) => http2.createSecureServer(tls, app.callback()), 'https'],
] as const

const PROTOCOLS = [
  ['HTTP/1.1', (app: Koa) => http.createServer(app.callback()), 'http'],
  [
    'HTTPS',
    (app: Koa) => https.createServer(tls, app.callback()) as unknown as http.Server,
    'https',
  ],
  ...HTTP2,
] as const

function connectBy(name: string, origin: string, path: string): Promise<TestClient> {
  if (name.startsWith('HTTP/2')) return connect2(session2(origin), path)
  if (name === 'HTTP/1.1') return connect(origin, path)
  return connectTls(origin, path)
}

async function connectTls(origin: string, path: string): Promise<TestClient> {
  const headers = { Connection: 'keep-alive' }
  const request = https.get(`${origin}${path}`, { ca: tls.cert, agent: false, headers })
  request.on('error', () => {})
  onTestFinished(() => {
    request.destroy()
  })
  const [response] = await once(request, 'response')
  return new TestClient(response)
}

const closeOfServer = (server: { close(): unknown; once(event: 'close', go: () => void): void }) =>
  new Promise<void>(resolve => {
    server.once('close', resolve)
    server.close()
  })

describe.each(PROTOCOLS)('a pool that closes over %s', (name, createServer, scheme) => {
  async function serve() {
    const pool = testPool()
    const { app, errors } = streamApp(pool)
    const server = createServer(app)
    const { port } = await listen(server)
    const origin = `${scheme}://localhost:${port}`
    const connecting = Array.from({ length: FEW }, (_, i) => connectBy(name, origin, `/${i}`))
    const clients = await Promise.all(connecting)
    for (const client of clients) await client.event('sse.cursor')
    return { pool, server, clients, errors, origin }
  }

  test.each([
    ['a small event', 10],
    ['an event of 1 MB', 1_000_000],
  ])(
    'sends every client %s and the retry, and the server closes (faults 67, 114)',
    async (_, size) => {
      const { pool, server, clients, errors } = await serve()
      void pool.broadcast('x'.repeat(size))
      await pool.close()
      const closed = closeOfServer(server)
      for (const client of clients) {
        expect(await client.ended).toBe(true)
        expect(client.data.map(({ length }) => length)).toEqual([size])
        expect(client.text).toMatch(/^retry: \d{4}$/m)
      }
      await closed
      expect(errors).toEqual([])
      expect(pool.stats().closed).toMatchObject({ drain: FEW, slow: 0 })
    },
  )

  test('sends what waits behind a full socket (fault 114)', async () => {
    const { pool, clients } = await serve()
    for (const { streams } of pool.values()) {
      for (const stream of streams)
        for (const size of [500_000, 400_000, 4]) stream.send('x'.repeat(size))
    }
    void pool.broadcast('last')
    await pool.close()
    for (const client of clients) {
      expect(await client.ended).toBe(true)
      expect(client.data.map(({ length }) => length)).toEqual([500_000, 400_000, 4, 4])
    }
  })

  test('sends the close event of a stream that has just been ended too (fault 114)', async () => {
    const { pool, server, clients } = await serve()
    for (const { streams } of pool.values()) for (const stream of streams) stream.end('bye')
    await pool.close()
    const closed = closeOfServer(server)
    for (const client of clients) {
      expect(await client.ended).toBe(true)
      expect(client.data).toEqual(['bye'])
    }
    await closed
  })
})

describe.each(HTTP2)('over %s', (_, createServer, scheme) => {
  async function serve(handler?: Handler) {
    const pool = testPool()
    const { app, errors } = streamApp(pool, handler)
    const server = createServer(app)
    const { port } = await listen(server)
    return { pool, server, errors, origin: `${scheme}://localhost:${port}` }
  }

  test('the session of drained streams gets GOAWAY, and other requests on it finish (fault 67)', async () => {
    const { pool, server, origin } = await serve()
    const session = session2(origin)
    const goaway = once(session, 'goaway')
    const clients = await Promise.all([connect2(session, '/ada'), connect2(session, '/bob')])
    for (const client of clients) await client.event('sse.cursor')
    await pool.close()
    const [code] = await goaway
    expect(code).toBe(http2.constants.NGHTTP2_NO_ERROR)
    for (const client of clients) expect(await client.ended).toBe(true)
    await closeOfServer(server)
    expect(session.closed).toBe(true)
  })

  test('a drained stream ends the session of a client that reconnects (fault 67)', async () => {
    const { pool, origin } = await serve()
    const session = session2(origin)
    const opened = nextOpen(pool)
    const client = await connect2(session, '/ada')
    await opened
    await client.event('sse.cursor')
    const closed = once(session, 'close')
    void pool.close()
    expect(await client.ended).toBe(true)
    await closed
  })
})
