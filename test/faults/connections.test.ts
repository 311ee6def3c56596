/** How connections end: over HTTP/1.1 and HTTP/2, each with and without TLS. */
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import http2, { type ClientHttp2Session } from 'node:http2'
import https from 'node:https'
import { setImmediate as turn } from 'node:timers/promises'
import Koa from 'koa'
import { type PoolOptions, sse } from 'koa-sse-pool'
import inject from 'light-my-request'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Stream } from '../../src/stream/stream.js'
import { deferred, type Handler, serveApp, watchCloses } from '../helpers/app.js'
import { connect2, session2, tls } from '../helpers/http2.js'
import { streamsOf } from '../helpers/interior.js'
import { connect, listen, TestClient, testPool } from '../helpers/server.js'

const PROTOCOLS = {
  'HTTP/1.1': (app: Koa) => http.createServer(app.callback()),
  HTTPS: (app: Koa) => https.createServer(tls, app.callback()) as unknown as http.Server,
  'HTTP/2': (app: Koa) => http2.createServer(app.callback()),
  'HTTP/2 over TLS': (app: Koa) => http2.createSecureServer(tls, app.callback()),
}

async function serve(protocol: keyof typeof PROTOCOLS, options: PoolOptions = {}) {
  const pool = testPool(options)
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => errors.push(error))
  app.use(sse({ pool, id: ctx => ctx.path.slice(1) }))
  const server = PROTOCOLS[protocol](app)
  const { port } = await listen(server)
  const isTls = protocol === 'HTTPS' || protocol.endsWith('TLS')
  const origin = `${isTls ? 'https' : 'http'}://localhost:${port}`
  /** Streams of `count` clients: on one connection over HTTP/2, else each on its own. */
  const open = async (count: number): Promise<TestClient[]> => {
    const paths = Array.from({ length: count }, (_, i) => `/client-${i}`)
    if (protocol === 'HTTP/1.1') return Promise.all(paths.map(path => connect(origin, path)))
    if (protocol === 'HTTPS') return Promise.all(paths.map(path => connectTls(port, path)))
    const session = session2(origin)
    return Promise.all(paths.map(async path => (await connect2(session, path)).client))
  }
  return { pool, server, port, origin, errors, open }
}

async function connectTls(port: number, path: string): Promise<TestClient> {
  const request = https.get({
    port,
    host: 'localhost',
    path,
    ca: tls.cert,
    agent: new https.Agent(),
  })
  request.on('error', () => {})
  onTestFinished(() => {
    request.destroy()
  })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  return new TestClient(response)
}

describe.each(Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[])('over %s', protocol => {
  test('a server closes after its pool, whose streams have left their connections (fault 67)', async () => {
    const { pool, server, open } = await serve(protocol)
    const clients = await open(5)
    await pool.close()
    await new Promise(resolve => server.close(resolve))
    expect(await Promise.all(clients.map(({ ended }) => ended))).toEqual(Array(5).fill(true))
  })

  test('the last events and `retry` reach each client of a pool that closes (fault 114)', async () => {
    const { pool, open } = await serve(protocol)
    const clients = await open(20)
    for (let i = 0; i < 10; i++) void pool.broadcast('x'.repeat(100_000))
    void pool.broadcast('last')
    await pool.close()
    for (const client of clients) {
      expect(await client.ended).toBe(true)
      expect(client.data).toHaveLength(11)
      expect(client.data.at(-1)).toBe('last')
      expect(client.text).toMatch(/^retry: \d{4}$/m)
    }
    expect(pool.stats().closed).toMatchObject({ drain: 20, slow: 0 })
  })
})

describe.each([false, true])('a client that takes nothing (lean: %s)', lean => {
  /** A stream whose socket holds a few bytes that the client does not take. */
  async function stuck() {
    const { pool, server, open } = await serve('HTTP/1.1', { lean, stallTimeout: 100 })
    const closes = watchCloses(pool)
    const [client] = (await open(1)) as [TestClient]
    await client.event('sse.cursor')
    const [stream] = streamsOf(pool) as [Stream]
    while (lean && !stream.isLean) await turn()
    client.response.pause()
    // Less than the high-water mark of the socket, so that no write ever returns false.
    while (stream.bufferedBytes === 0) {
      stream.sendFrame(`data: ${'x'.repeat(1000)}\n\n`)
      await turn()
    }
    expect(stream.isBlocked).toBe(false)
    return { pool, server, closes }
  }

  test('is closed as slow, though its socket is not full (fault 68)', async () => {
    const { closes } = await stuck()
    expect(await closes.next).toBe('slow')
  })

  test('does not hold up the server once the pool has closed (fault 68)', async () => {
    const { pool, server } = await stuck()
    await pool.close()
    await new Promise(resolve => server.close(resolve))
    expect(pool.connections).toBe(0)
  })
})

test('a body that nobody reads is drained when the stream opens (fault 94)', async () => {
  const arrived = deferred<IncomingMessage>()
  const { port } = await serveApp((ctx, next) => {
    arrived.resolve(ctx.req)
    return next()
  }, sse())
  const request = http.request({ port, method: 'POST', agent: false })
  onTestFinished(() => {
    request.destroy()
  })
  request.write(Buffer.alloc(2_000_000))
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const received = once(await arrived.promise, 'end')
  request.end()
  await received
  expect(response.statusCode).toBe(200)
})

test('a request without a socket, as test tools and serverless adapters make it, gets its events (fault 93)', async () => {
  const pool = testPool()
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => errors.push(error))
  app.use(sse({ pool, id: () => 'ada' }))
  app.use((async ctx => {
    ctx.sse.send('first')
    await pool.send('ada', 'second')
    ctx.sse.end()
  }) as Handler as Koa.Middleware)
  const answer = await inject(app.callback(), { method: 'GET', url: '/' })
  expect(errors).toEqual([])
  expect(answer.statusCode).toBe(200)
  expect(answer.body).toMatch(/data: first\n\n.*data: second\n.*id: sse\.end\n/s)
  expect(errors).toEqual([])
  expect(pool.connections).toBe(0)
})

describe.each(['HTTP/2', 'HTTP/2 over TLS'] as const)('over %s', protocol => {
  test('a client of a draining pool comes back on another connection (fault 67)', async () => {
    const { pool, origin } = await serve(protocol)
    const session = session2(origin)
    const left = once(session, 'goaway')
    const { client } = await connect2(session, '/ada')
    await client.event('sse.cursor')
    await pool.close()
    await left
    expect(session.closed || session.destroyed).toBe(true)
  })

  test('streams that are reset without an error in the middle of a broadcast leave the pool, and no error is logged (fault 69)', async () => {
    const { pool, origin, errors } = await serve(protocol)
    const session = session2(origin)
    const streams = await Promise.all(
      Array.from({ length: 100 }, (_, i) => connect2(session, `/client-${i}`)),
    )
    const gone = deferred()
    pool.on('close', () => pool.connections === 0 && gone.resolve())
    for (const [i, { stream }] of streams.entries()) {
      void pool.broadcast('x'.repeat(1000))
      stream.close(http2.constants.NGHTTP2_NO_ERROR)
      if (i % 10 === 0) await turn()
    }
    while (pool.connections > 0) {
      void pool.broadcast('y'.repeat(1000))
      await turn()
    }
    await gone.promise
    expect(errors).toEqual([])
  })

  test('a destroyed session takes its streams along without an error (fault 69)', async () => {
    const { pool, origin, errors } = await serve(protocol)
    const session: ClientHttp2Session = session2(origin)
    await Promise.all(Array.from({ length: 50 }, (_, i) => connect2(session, `/client-${i}`)))
    for (let i = 0; i < 5; i++) void pool.broadcast('x'.repeat(10_000))
    session.destroy()
    while (pool.connections > 0) {
      void pool.broadcast('y'.repeat(1000))
      await turn()
    }
    expect(errors).toEqual([])
  })
})
