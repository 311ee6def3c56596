import { once } from 'node:events'
import type http from 'node:http'
import http2, { type ClientHttp2Stream } from 'node:http2'
import https from 'node:https'
import Koa from 'koa'
import { type ClientPool, type PoolOptions, sse } from 'koa-sse-pool'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  deferred,
  type Handler,
  nextOpen,
  rawGet,
  reading,
  serveApp,
  watchCloses,
} from '../helpers/app.js'
import { connect2, session2, tls } from '../helpers/http2.js'
import { streamsOf } from '../helpers/interior.js'
import { listen, rawConnection, TestClient, testPool } from '../helpers/server.js'

const warnings = vi.fn()

beforeEach(() => {
  process.on('warning', warnings)
})

afterEach(async () => {
  // Warnings are emitted by `process.nextTick`.
  await new Promise(resolve => setImmediate(resolve))
  process.off('warning', warnings)
  expect(warnings).not.toHaveBeenCalled()
  vi.useRealTimers()
})

const byPath = (ctx: Koa.Context) => ctx.path.slice(1)

/** `/plain` and `/slow` are ordinary, everything else is a stream. */
async function serveBoth(handler?: Handler, options: PoolOptions = {}) {
  const pool = testPool(options)
  const slow = deferred()
  const plain: Koa.Middleware = async (ctx, next) => {
    if (ctx.path === '/slow') await slow.promise
    else if (ctx.path !== '/plain') return next()
    ctx.body = 'plain answer'
  }
  const handlers = handler ? [handler] : []
  const served = await serveApp(plain, sse({ pool, id: byPath }), ...handlers)
  return { ...served, pool, slow }
}

const ask = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

/** The chunks of an HTTP/1.1 body; fails if one is incomplete. */
function chunksOf(body: string) {
  const chunks: string[] = []
  let rest = Buffer.from(body)
  for (;;) {
    const end = rest.indexOf('\r\n')
    const size = Number.parseInt(rest.subarray(0, end).toString(), 16)
    if (!(size > 0)) return { chunks, isOver: size === 0, rest: rest.subarray(end + 4).toString() }
    const start = end + 2
    chunks.push(rest.subarray(start, start + size).toString())
    expect(rest.subarray(start + size, start + size + 2).toString()).toBe('\r\n')
    rest = rest.subarray(start + size + 2)
  }
}

describe('over HTTP/1.0', () => {
  test('a stream is sent without chunks and ends when the connection closes (fault 42)', async () => {
    const { pool, port } = await serveBoth()
    const opened = nextOpen(pool)
    const socket = await rawGet(port, '/ada', '1.0', 'Connection: keep-alive\r\n')
    const answer = reading(socket)
    const stream = await opened
    await pool.send('ada', 'ä live')
    stream.send('direct')
    await answer.until('data: direct')
    await pool.remove('ada')
    await once(socket, 'close')

    const [head = '', body = ''] = answer.text.split('\r\n\r\n')
    expect(head).not.toMatch(/transfer-encoding|connection: keep-alive/i)
    expect(body).toMatch(
      /^:ok\n(event: sse\.cursor\ndata:\n(id: .+\n)?\n)?data: ä live\nid: .+\n\ndata: direct\n\nevent: close\ndata: ?\nid: sse\.end\n\n$/,
    )
  })
})

describe('over HTTP/1.1', () => {
  test('every frame is one whole chunk, even with text that is not ASCII (fault 42)', async () => {
    const { pool, port } = await serveBoth()
    const opened = nextOpen(pool)
    const answer = reading(await rawGet(port, '/ada'))
    const stream = await opened
    await pool.send('ada', 'smile \u{1f600}')
    stream.send({ data: 'ü', event: 'direct' })
    stream.comment('ö')
    stream.end('bye')
    await answer.until('\r\n0\r\n\r\n')

    const [head = '', body = ''] = answer.text.split(/\r\n\r\n(.*)/s)
    expect(head).toMatch(/^transfer-encoding: chunked$/im)
    expect(head).toMatch(/^connection: keep-alive$/im)
    const { chunks, isOver, rest } = chunksOf(body)
    expect({ isOver, rest }).toEqual({ isOver: true, rest: '' })
    const text = chunks.join('')
    for (const line of ['data: smile \u{1f600}', 'data: ü', ': ö', 'data: bye']) {
      expect(text).toContain(`${line}\n`)
    }
  })

  test('the connection of an ended stream serves the next requests (fault 42)', async () => {
    const { port, pool } = await serveBoth(ctx => {
      ctx.sse.send(`hello ${ctx.sse.id}`)
      ctx.sse.end()
    })
    const socket = await rawGet(port, '/ada')
    const answers = reading(socket)
    await answers.until('\r\n0\r\n\r\n')
    socket.write(ask('/plain'))
    await answers.until('plain answer')
    socket.write(ask('/bob'))
    await answers.until('hello bob')
    await answers.until('plain answerHTTP/1.1 200 OK')
    expect(pool.stats()).toMatchObject({ streams: 0, opened: 2, closed: { end: 2 } })
  })

  test('an app that ends the response itself breaks no connection with what it sends afterwards', async () => {
    let response: http.ServerResponse | undefined
    const handler: Handler = ctx => {
      response = ctx.res
    }
    // The response of a lean stream is already over, so ending it does nothing.
    const { pool, port } = await serveBoth(handler, { lean: false })
    const opened = nextOpen(pool)
    const socket = await rawConnection(port)
    const answers = reading(socket)
    socket.write(ask('/ada'))
    const stream = await opened
    await answers.until('sse.cursor')
    response?.end()
    stream.send('late')
    socket.write(ask('/plain'))
    await answers.until('plain answer')
    expect(answers.text).not.toContain('late')
    expect(answers.text).toContain('\r\n0\r\n\r\nHTTP/1.1 200 OK')
  })

  test('a stream pipelined behind a slow response waits for it and loses nothing (fault 42)', async () => {
    const { pool, port, slow } = await serveBoth(ctx => {
      ctx.sse.send('direct')
    })
    const opened = nextOpen(pool)
    const socket = await rawConnection(port)
    const answers = reading(socket)
    socket.write(ask('/slow') + ask('/ada'))
    await opened
    await pool.send('ada', 'while it waits')
    expect(answers.text).toBe('')
    slow.resolve()
    await answers.until('while it waits')
    await pool.send('ada', 'afterwards')
    await answers.until('afterwards')

    const [, , body = ''] = answers.text
      .split('\r\n\r\n')
      .map((_, i, all) => all.slice(i).join('\r\n\r\n'))
    expect(answers.text).toMatch(/plain answerHTTP\/1\.1 200 OK/)
    const { chunks, isOver } = chunksOf(body)
    expect(isOver).toBe(false)
    const data = [...chunks.join('').matchAll(/^data: (.+)$/gm)].map(([, text]) => text)
    expect(data).toEqual(['direct', 'while it waits', 'afterwards'])
  })

  test('a client that disconnects while its stream is pipelined is removed (fault 42)', async () => {
    const { pool, port } = await serveBoth()
    const opened = nextOpen(pool)
    const { next } = watchCloses(pool)
    const socket = await rawConnection(port)
    socket.write(ask('/slow') + ask('/ada'))
    await opened
    socket.resetAndDestroy()
    expect(await next).toBe('client')
    expect(pool.size).toBe(0)
  })

  test('a request pipelined behind a stream is answered once the stream has ended (fault 42)', async () => {
    const { pool, port } = await serveBoth()
    const opened = nextOpen(pool)
    const socket = await rawConnection(port)
    const answers = reading(socket)
    socket.write(ask('/ada') + ask('/plain'))
    const stream = await opened
    await pool.send('ada', 'live')
    await answers.until('live')
    expect(answers.text).not.toContain('plain answer')
    stream.end()
    await answers.until('plain answer')
    expect(answers.text).toMatch(/\r\n0\r\n\r\nHTTP\/1\.1 200 OK/)
  })

  test('two streams on one pipelined connection are served one after the other (fault 42)', async () => {
    const { pool, port } = await serveBoth()
    const socket = await rawConnection(port)
    const answers = reading(socket)
    const both = deferred()
    pool.on('open', () => pool.connections === 2 && both.resolve())
    socket.write(ask('/ada') + ask('/bob'))
    await both.promise
    await pool.broadcast('to both')
    await pool.remove('ada')
    await answers.until('\r\n0\r\n\r\nHTTP/1.1 200 OK')
    await pool.send('bob', 'to bob')
    await answers.until('to bob')
    expect(answers.text.match(/to both/g)).toHaveLength(2)
  })
})

describe.each([
  ['cleartext', (app: Koa) => http2.createServer(app.callback()), 'http'],
  ['TLS', (app: Koa) => http2.createSecureServer(tls, app.callback()), 'https'],
  [
    'TLS with allowHTTP1',
    (app: Koa) => http2.createSecureServer({ ...tls, allowHTTP1: true }, app.callback()),
    'https',
  ],
])('over HTTP/2 (%s)', (_, createServer, scheme) => {
  async function serve(handler?: Handler) {
    const pool = testPool()
    const app = new Koa()
    const errors: Error[] = []
    app.on('error', error => errors.push(error))
    app.use(sse({ pool, id: byPath }))
    if (handler) app.use(handler as Koa.Middleware)
    const server = createServer(app)
    const { port } = await listen(server)
    return { pool, errors, server, origin: `${scheme}://localhost:${port}` }
  }

  test('streams share a connection and have no HTTP/1 headers (fault 42)', async () => {
    const { pool, origin } = await serve(ctx => {
      ctx.sse.send(`hello ${ctx.sse.id}`)
    })
    const session = session2(origin)
    const [ada, bob] = await Promise.all([connect2(session, '/ada'), connect2(session, '/bob')])
    await ada.client.until(({ data }) => data.includes('hello ada'))
    await pool.broadcast('ä to both')
    for (const { client } of [ada, bob]) {
      await client.until(({ data }) => data.includes('ä to both'))
      expect(client.status).toBe(200)
      expect(client.headers['content-type']).toBe('text/event-stream; charset=utf-8')
      expect(client.headers).not.toHaveProperty('connection')
      expect(client.headers).not.toHaveProperty('transfer-encoding')
    }
    await pool.remove('ada')
    expect(await ada.client.ended).toBe(true)
    expect(ada.client.lastEventId).toBe('sse.end')
    await pool.broadcast('to bob')
    await bob.client.until(({ data }) => data.includes('to bob'))

    const back = await connect2(session, '/ada', { 'last-event-id': 'sse.end' })
    expect(back.client.status).toBe(204)
  })

  test('an app that ends the response itself resets no stream with what it sends afterwards', async () => {
    let response: Koa.Context['res'] | undefined
    const { pool, origin } = await serve(ctx => {
      response = ctx.res
    })
    const session = session2(origin)
    const { client, stream: request } = await connect2(session, '/ada')
    await client.event('sse.cursor')
    const [stream] = pool.get('ada')?.streams ?? []
    response?.end()
    stream?.send('late')
    expect(await client.ended).toBe(true)
    expect(request.rstCode).toBe(0)
    expect(client.data).toEqual([])
  })

  test('a stream that the client resets leaves the others on its connection alone (fault 42)', async () => {
    const { pool, origin, errors } = await serve()
    const closes = watchCloses(pool)
    const session = session2(origin)
    const ada = await connect2(session, '/ada')
    const bob = await connect2(session, '/bob')
    ada.stream.close(http2.constants.NGHTTP2_CANCEL)
    expect(await closes.next).toBe('client')
    await pool.broadcast('go on')
    await bob.client.until(({ data }) => data.includes('go on'))
    expect([...pool.keys()]).toEqual(['bob'])
    expect(errors).toEqual([])
  })

  test('a connection that breaks while handlers run removes its streams without an error (fault 38)', async () => {
    const entered = deferred()
    const bothClosed = deferred()
    const { pool, origin, errors } = await serve(async ctx => {
      if (ctx.sse.id === 'ada') return
      entered.resolve()
      await ctx.sse.closed
      expect(ctx.sse.send('too late')).toBe(false)
    })
    pool.on('close', () => pool.size === 0 && bothClosed.resolve())
    const session = session2(origin)
    await connect2(session, '/ada')
    session.request({ ':path': '/bob' }).on('error', () => {})
    await entered.promise
    session.destroy()
    await bothClosed.promise
    await new Promise(resolve => setImmediate(resolve))
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { client: 2 } })
    expect(errors).toEqual([])
  })

  test.each([
    ['resets its stream', (s: ClientHttp2Stream) => s.close(http2.constants.NGHTTP2_CANCEL)],
    ['breaks its connection', (s: ClientHttp2Stream) => s.session?.destroy()],
  ])('a client that %s during identification is never admitted (fault 38)', async (_, go) => {
    const pool = testPool()
    const asked = deferred<Koa.Context>()
    const answer = deferred()
    const over = deferred()
    const app = new Koa()
    const onError = vi.fn()
    app.on('error', onError)
    app.use((_, next) => next().finally(over.resolve))
    const id = async (ctx: Koa.Context) => {
      asked.resolve(ctx)
      await answer.promise
      return 'ada'
    }
    app.use(sse({ pool, id }))
    const { port } = await listen(createServer(app))
    const stream = session2(`${scheme}://localhost:${port}`).request({ ':path': '/' })
    stream.on('error', () => {})
    const { res } = await asked.promise
    const closed = new Promise(resolve => res.once('close', resolve))
    go(stream)
    await closed
    answer.resolve()
    await over.promise
    await new Promise(resolve => setImmediate(resolve))
    expect(pool.stats()).toMatchObject({ opened: 0, streams: 0 })
    expect(onError).not.toHaveBeenCalled()
  })

  test('a handler that throws after the opening ends its stream without a close event (fault 39)', async () => {
    const arrived = deferred()
    const { pool, origin, errors } = await serve(async ctx => {
      ctx.sse.send('first')
      await arrived.promise
      throw new Error('boom')
    })
    const { client } = await connect2(session2(origin), '/ada')
    await client.until(({ data }) => data.includes('first'))
    arrived.resolve()
    expect(await client.ended).toBe(true)
    expect(client.text).not.toContain('sse.end')
    expect(errors.map(({ message }) => message)).toEqual(['boom'])
    expect(pool.stats().closed.error).toBe(1)
  })

  test('a reader that is slow on one stream still gets everything (fault 42)', async () => {
    const { pool, origin } = await serve()
    const opened = nextOpen(pool)
    const { client, stream } = await connect2(session2(origin), '/ada')
    stream.pause()
    await opened
    const events = 200
    for (let i = 0; i < events; i++) void pool.send('ada', `${i} ${'x'.repeat(10_000)}`)
    await untilBlocked(pool)
    stream.resume()
    await client.until(({ data }) => data.length === events)
    expect(client.data.map(data => Number.parseInt(data, 10))).toEqual([...Array(events).keys()])
  })

  test('a stream is drained at the next heartbeat once its server has stopped listening', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { server, origin, pool } = await serve()
    const { client } = await connect2(session2(origin), '/ada')
    server.close()
    vi.advanceTimersByTime(15_000)
    expect(await client.ended).toBe(true)
    expect(client.text).toMatch(/^retry: \d{4}\n$/m)
    expect(pool.stats().closed.drain).toBe(1)
  })
})

/** Waits until the stream is behind: its socket is full and further events wait. */
async function untilBlocked(pool: ClientPool): Promise<void> {
  while (!streamsOf(pool)[0]?.isBlocked) await new Promise(resolve => setImmediate(resolve))
}

test('an HTTP/2 server that also speaks HTTP/1.1 sends chunks there (fault 42)', async () => {
  const pool = testPool()
  const app = new Koa()
  app.use(sse({ pool, id: byPath }))
  const server = http2.createSecureServer({ ...tls, allowHTTP1: true }, app.callback())
  const { port } = await listen(server)
  const request = https.get({ port, host: 'localhost', path: '/ada', ca: tls.cert, agent: false })
  const [response] = await once(request, 'response')
  const client = new TestClient(response)
  expect(client.headers['transfer-encoding']).toBe('chunked')
  await pool.send('ada', 'ä live')
  await client.until(({ data }) => data.includes('ä live'))
  await pool.remove('ada')
  expect(await client.ended).toBe(true)
})

test('HTTPS with HTTP/1.1 sends chunks too (fault 42)', async () => {
  const pool = testPool()
  const app = new Koa()
  app.use(sse({ pool, id: byPath }))
  const { port } = await listen(https.createServer(tls, app.callback()) as unknown as http.Server)
  const request = https.get({ port, host: 'localhost', path: '/ada', ca: tls.cert, agent: false })
  const [response] = await once(request, 'response')
  const client = new TestClient(response)
  await pool.send('ada', 'live')
  await client.until(({ data }) => data.includes('live'))
  await pool.close()
  expect(await client.ended).toBe(true)
})
