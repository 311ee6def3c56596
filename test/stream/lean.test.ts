import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import cors from '@koa/cors'
import Koa from 'koa'
import compress from 'koa-compress'
import helmet from 'koa-helmet'
import logger from 'koa-logger'
import responseTime from 'koa-response-time'
import session from 'koa-session'
import { type CloseReason, type EventStream, sse } from 'koa-sse-pool'
import { request } from 'undici'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import {
  closeOf,
  deferred,
  type Handler,
  nextOpen,
  rawGet,
  reading,
  serveApp,
  watchCloses,
} from '../helpers/app.js'
import { streamOf } from '../helpers/interior.js'
import { openLean, watchAttempts } from '../helpers/lean.js'
import {
  connect,
  listen,
  rawConnection,
  serveStreams,
  TestClient,
  testPool,
} from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const MIB = 1024 * 1024

const ask = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

const tls = {
  key: readFileSync(new URL('../fixtures/localhost.key.pem', import.meta.url)),
  cert: readFileSync(new URL('../fixtures/localhost.cert.pem', import.meta.url)),
}

/** A lean stream on a bare connection. */
async function openRaw(pool = testPool({ lean: true }), handler?: Handler) {
  const attempt = watchAttempts()
  const served = await serveStreams({ pool }, handler)
  const connected = once(served.server, 'connection') as Promise<[Socket]>
  const socket = await rawGet(served.port, '/?id=ada')
  const answer = reading(socket)
  const { face: stream, isLean } = await attempt()
  expect(isLean).toBe(true)
  const [connection] = await connected
  return { ...served, pool, socket, answer, stream, connection }
}

describe('a lean stream', () => {
  test('gets what is sent to everyone, to its client, to its channel and to itself, in order', async () => {
    const { pool, stream, interior, client } = await openLean()
    stream.join('news')
    void pool.broadcast('1')
    stream.send('2 ä\u{1f600}')
    void pool.channel('news').send({ event: 'update', data: [3] })
    void pool.send('ada', '4')
    stream.comment('5')
    await client.until(({ comments }) => comments.includes('5'))
    expect(client.data).toEqual(['1', '2 ä\u{1f600}', '[3]', '4'])
    expect(interior.isLean).toBe(true)
  })

  test('gets a thousand events of one tick, and sources with back-pressure', async () => {
    const { pool, stream, client } = await openLean()
    for (let i = 0; i < 1000; i++) void pool.send('ada', 'pooled')
    const filler = 'x'.repeat(64 * 1024)
    await stream.stream(Array.from({ length: 200 }, () => filler))
    await client.until(({ data }) => data.length === 1200)
    expect(pool.stats()).toMatchObject({ lean: 1, gaps: 0, lagging: 0 })
  })

  test('gets what it missed, then live events', async () => {
    const { pool, origin, attempt } = await openLean()
    const seen = await pool.send('bob', 'seen')
    await pool.send('bob', 'missed')
    const bob = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': seen } })
    expect((await attempt(2)).isLean).toBe(true)
    await pool.send('bob', 'live')
    await bob.until(({ data }) => data.includes('live'))
    expect(bob.data).toEqual(['missed', 'live'])
  })

  test('gets heartbeats with the newest id', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { pool, client } = await openLean()
    const id = await pool.send('bob', 'not for ada')
    vi.advanceTimersByTime(15_000)
    await client.until(({ lastEventId }) => lastEventId === id)
  })

  test('that does not read is blocked, catches up and continues', async () => {
    const { pool, client, interior } = await openLean()
    client.response.pause()
    let sent = 0
    for (; !interior.isBlocked; sent++) {
      await pool.send('ada', String(sent).padEnd(65_536, '.'))
      await turn()
    }
    expect(pool.stats()).toMatchObject({ lean: 1, lagging: 1 })
    await pool.send('ada', 'behind')
    client.response.resume()
    await client.until(({ data }) => data.includes('behind'))
    expect(client.data.slice(0, -1).map(data => Number.parseInt(data, 10))).toEqual(
      Array.from({ length: sent }, (_, i) => i),
    )
    expect(pool.stats()).toMatchObject({ lean: 1, lagging: 0, gaps: 0 })
  })

  test('that fell out of the window gets a gap', async () => {
    const { pool, client, interior } = await openLean({ window: { events: 10 } })
    client.response.pause()
    while (!interior.isBlocked) {
      await pool.send('ada', 'x'.repeat(65_536))
      await turn()
    }
    for (let i = 0; i < 100; i++) await pool.send('ada', 'x'.repeat(65_536))
    client.response.resume()
    expect((await client.event('sse.gap')).data).toBe('{"reason":"lagged"}')
    await pool.send('ada', 'live')
    await client.until(({ data }) => data.includes('live'))
  })

  test('that takes nothing for stallTimeout is closed as slow', async () => {
    const { pool, client } = await openLean({ stallTimeout: 50 })
    const closes = watchCloses(pool)
    client.response.pause()
    for (let i = 0; i < 300; i++) void pool.send('ada', 'x'.repeat(65_536))
    expect(await closes.next).toBe('slow')
    client.response.resume()
    expect(await client.ended).toBe(false)
    expect(pool.stats()).toMatchObject({ streams: 0, lean: 0 })
  })

  test('is also closed as slow if it was full before it became lean', async () => {
    const pool = testPool({ lean: true, stallTimeout: 50 })
    const closes = watchCloses(pool)
    const attempt = watchAttempts()
    let wasBlocked = false
    const { origin } = await serveStreams({ pool }, async ({ sse: stream }) => {
      stream.comment()
      while (!stream.isOpen) await turn()
      while (stream.send('x'.repeat(65_536)));
      wasBlocked = streamOf(pool, stream.id).isBlocked
      await stream.drained()
    })
    const client = await connect(origin)
    expect((await attempt()).isLean).toBe(true)
    expect(wasBlocked).toBe(true)
    client.response.pause()
    for (let i = 0; i < 300; i++) void pool.broadcast('x'.repeat(65_536))
    expect(await closes.next).toBe('slow')
  })

  test('that is sent more than may wait is closed as slow', async () => {
    const { stream, client, interior } = await openLean({ maxBufferedBytes: 100_000 })
    client.response.pause()
    for (let i = 0; i < 1000 && !interior.isClosed; i++) stream.send('x'.repeat(50_000))
    expect(await stream.closed).toBe('slow')
  })
})

describe('the end of a lean stream', () => {
  test.each(['end', 'remove'] as const)(
    'by %s sends the close event and completes the response',
    async how => {
      const { pool, origin, stream, client, attempt } = await openLean()
      const byUndici = await request(`${origin}/?id=ada`)
      const other = (await attempt(2)).face
      const text = byUndici.body.text()
      stream.send('last words')
      other.send('last words')
      if (how === 'remove') await pool.remove('ada', 'bye')
      else for (const each of [stream, other]) each.end('bye')

      expect(await client.ended).toBe(true)
      expect(client.messages).toMatchObject([
        { data: 'last words' },
        { event: 'close', id: 'sse.end', data: 'bye' },
      ])
      expect(await text).toMatch(/data: last words\n\nevent: close\ndata: bye\nid: sse\.end\n\n$/)
      const closed = { [how === 'end' ? 'end' : 'removed']: 2 }
      expect(pool.stats()).toMatchObject({ streams: 0, lean: 0, closed })
    },
  )

  test('is one last chunk and closes the connection', async () => {
    const { socket, answer, stream } = await openRaw()
    const closed = closeOf(socket)
    stream.end()
    await closed
    expect(answer.text).toMatch(/data: \nid: sse\.end\n\n\r\n0\r\n\r\n$/)
    expect(answer.text.match(/\r\n0\r\n/g)).toHaveLength(1)
  })

  test('comes after everything that still waits in its socket', async () => {
    const { stream, client, interior } = await openLean({ maxBufferedBytes: 64 * MIB })
    client.response.pause()
    let sent = 0
    for (; !interior.isBlocked; sent++) stream.send('x'.repeat(100_000))
    stream.send('behind')
    stream.end()
    client.response.resume()
    expect(await client.ended).toBe(true)
    expect(client.data.slice(sent)).toEqual(['behind', ''])
  })

  test.each<[string, (socket: Socket) => void]>([
    ['resets its connection', socket => socket.resetAndDestroy()],
    ['closes its half and keeps listening', socket => socket.end()],
    ['closes its connection', socket => socket.destroy()],
  ])('is noticed once when the client %s', async (_, go) => {
    const { pool, socket, stream, server } = await openRaw()
    const closes = watchCloses(pool)
    const gone = closeOf(socket)
    go(socket)
    expect(await closes.next).toBe('client')
    await gone
    await pool.broadcast('nobody hears it')
    expect(stream.send('too late')).toBe(false)
    expect(closes.reasons).toEqual(['client'])
    expect(pool.has('ada')).toBe(false)
    expect(pool.stats()).toMatchObject({ clients: 0, streams: 0, lean: 0, closed: { client: 1 } })
    // Nothing of the stream keeps the server from closing.
    await new Promise(resolve => server.close(resolve))
  })

  test.each<[string, (stream: EventStream) => unknown, CloseReason]>([
    ['sends', stream => stream.send('into the void'), 'client'],
    ['ends', stream => stream.end(), 'end'],
  ])('is no error when the app %s after the FIN', async (_, act, reason) => {
    const pool = testPool({ lean: true })
    const closes = watchCloses(pool)
    const { socket, stream, connection } = await openRaw(pool)
    const errors = vi.fn()
    connection.on('error', errors)
    const gone = closeOf(connection)
    connection.once('end', () => act(stream))
    socket.end()
    await gone
    expect(closes.reasons).toEqual([reason])
    expect(errors).not.toHaveBeenCalled()
  })

  test('comes at the stall limit if the reader does not take its last bytes', async () => {
    const { pool, stream, client, server } = await openLean({
      stallTimeout: 50,
      maxEventBytes: 64 * MIB,
    })
    client.response.pause()
    stream.end('x'.repeat(16 * MIB))
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { end: 1 } })
    // The stream has left the pool. Without the limit, its client could keep the server from closing.
    await new Promise(resolve => server.close(resolve))
    client.response.resume()
    expect(await client.ended).toBe(false)
  })
})

describe('on the connection of a lean stream,', () => {
  test.each([
    ['bytes', 'nonsense\r\n\r\n'],
    ['a request', ask('/plain')],
    ['half a request', 'GET /plain HTTP/1.1\r\nHo'],
    ['a megabyte', 'x'.repeat(1024 * 1024)],
  ])(
    '%s sent later by the client gets no answer inside the stream, which continues',
    async (_, bytes) => {
      const { pool, socket, answer, server } = await openRaw()
      const requests = vi.fn()
      server.on('request', requests)
      server.on('clientError', requests)
      await new Promise(resolve => socket.write(bytes, resolve))
      await pool.send('ada', 'first')
      await answer.until('data: first')
      socket.write(ask('/again'))
      await pool.send('ada', 'second')
      await answer.until('data: second')
      expect(answer.text.match(/HTTP\/1\.1/g)).toHaveLength(1)
      expect(requests).not.toHaveBeenCalled()

      // The pool still notices when this client leaves.
      const closes = watchCloses(pool)
      socket.end()
      expect(await closes.next).toBe('client')
    },
  )
})

describe('around a lean stream', () => {
  test('the response emits finish and close once, when the stream opens', async () => {
    const seen: string[] = []
    const { stream, client, server, interior } = await openLean({}, {}, ctx => {
      for (const event of ['finish', 'close'] as const) {
        ctx.res.on(event, () => seen.push(event))
      }
    })
    await turn()
    expect(seen).toEqual(['finish', 'close'])
    stream.send('still open')
    await client.until(({ data }) => data.includes('still open'))
    expect(interior.isClosed).toBe(false)
    stream.end()
    await client.ended
    await new Promise(resolve => server.close(resolve))
    expect(seen).toEqual(['finish', 'close'])
  })

  test('a handler may keep sending: its stream becomes lean when it returns and loses nothing', async () => {
    const pool = testPool({ lean: true })
    const attempt = watchAttempts()
    const goOn = deferred()
    const { origin } = await serveStreams({ pool }, async ctx => {
      ctx.sse.send('first')
      await goOn.promise
      for (let i = 0; i < 100; i++) {
        ctx.sse.send(`late ${i}`)
        if (i % 10 === 0) await turn()
      }
      setImmediate(() => ctx.sse.send('after all'))
    })
    const client = await connect(origin, '/?id=ada')
    await client.until(({ data }) => data.includes('first'))
    expect(pool.stats()).toMatchObject({ streams: 1, lean: 0 })
    goOn.resolve()
    expect((await attempt()).isLean).toBe(true)
    await pool.send('ada', 'pooled')
    await client.until(({ data }) => data.includes('pooled'))
    const late = Array.from({ length: 100 }, (_, i) => `late ${i}`)
    expect(client.data.filter(data => data !== 'pooled')).toEqual(['first', ...late, 'after all'])
  })

  test('a handler that fails after the opening cuts it as usual', async () => {
    const pool = testPool({ lean: true })
    const closes = watchCloses(pool)
    const arrived = deferred()
    const { origin, errors } = await serveApp(sse({ pool }), (async ctx => {
      ctx.sse.send('first')
      await arrived.promise
      throw new Error('boom')
    }) satisfies Handler)
    const client = await connect(origin)
    await client.until(({ data }) => data.includes('first'))
    arrived.resolve()
    expect(await client.ended).toBe(false)
    expect(errors.map(({ message }) => message)).toEqual(['boom'])
    expect(closes.reasons).toEqual(['error'])
  })

  test('outer middleware keeps its headers, cookies and log lines', async () => {
    const lines: string[] = []
    const headersOf = async (lean: boolean) => {
      const pool = testPool({ lean })
      const attempt = watchAttempts()
      const app = new Koa()
      app.keys = ['test']
      app.use(logger(text => lines.push(text)))
      app.use(responseTime())
      app.use(helmet())
      app.use(cors({ credentials: true }))
      app.use(compress({ threshold: 0 }))
      app.use(session(app))
      app.use((ctx, next) => {
        Object.assign(ctx.session ?? {}, { user: 'ada' })
        return next()
      })
      app.use(sse({ pool }))
      const { origin } = await listen(http.createServer(app.callback()))
      const headers = { origin: 'http://elsewhere', 'accept-encoding': 'gzip' }
      const client = await connect(origin, '/', { headers })
      if (lean) expect((await attempt()).isLean).toBe(true)
      await pool.broadcast('all the same')
      await client.until(({ data }) => data.includes('all the same'))
      expect(client.headers['x-response-time']).toMatch(/ms$/)
      expect(client.headers['set-cookie']).toHaveLength(2)
      return Object.keys(client.headers).sort()
    }
    expect(await headersOf(true)).toEqual(await headersOf(false))
    expect(lines.join('')).not.toMatch(/error|ECONN/i)
  })

  test('the time limits of the server do not cut it', async () => {
    const pool = testPool({ lean: true })
    const attempt = watchAttempts()
    const app = new Koa()
    app.use((ctx, next) => {
      if (ctx.path === '/never') return new Promise(() => {})
      if (ctx.path !== '/plain') return next()
      ctx.body = 'plain'
    })
    app.use(sse({ pool }))
    const limits = { headersTimeout: 50, requestTimeout: 50, keepAliveTimeout: 50 }
    const server = http.createServer({ connectionsCheckingInterval: 20, ...limits }, app.callback())
    server.setTimeout(100)
    const connected = once(server, 'connection') as Promise<[Socket]>
    const { origin, port } = await listen(server)
    const client = await connect(origin)
    expect((await attempt()).isLean).toBe(true)
    // None of the timers that Node set is left.
    const [socket] = await connected
    expect(socket.timeout).toBe(0)

    // Other connections that the limits do cut prove that the limits were applied.
    const victims = ['GET / HTTP/1.1\r\nHo', ask('/plain'), ask('/never')].map(async bytes => {
      const victim = await rawConnection(port)
      victim.resume().write(bytes)
      await closeOf(victim)
    })
    await Promise.all(victims)
    await pool.broadcast('still here')
    await client.until(({ data }) => data.includes('still here'))
    expect(pool.stats().lean).toBe(1)
  })

  test('server.close() and pool.close() end everything', async () => {
    const { pool, origin, server, client, attempt } = await openLean()
    const other = await connect(origin, '/?id=bob')
    await attempt(2)
    const closed = new Promise(resolve => server.close(resolve))
    await pool.close()
    for (const each of [client, other]) {
      expect(await each.ended).toBe(true)
      expect(each.text).toMatch(/^retry: \d{4}\n$/m)
    }
    await closed
    expect(pool.stats()).toMatchObject({ streams: 0, lean: 0, closed: { drain: 2 } })
  })

  test('a server that no longer listens drains it at the next heartbeat', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { pool, server, client } = await openLean()
    const closed = new Promise(resolve => server.close(resolve))
    vi.advanceTimersByTime(15_000)
    expect(await client.ended).toBe(true)
    await closed
    expect(pool.stats().closed.drain).toBe(1)
  })

  test('TLS changes nothing: it is lean, delivers, drains and ends', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({ lean: true })
    const attempt = watchAttempts()
    const app = new Koa().use(sse({ pool, id: ctx => ctx.query.id }))
    const server = https.createServer(tls, app.callback())
    const { port } = await listen(server as unknown as http.Server)
    const connectTls = async (id: string) => {
      const headers = { connection: 'keep-alive' }
      const target = { port, host: 'localhost', path: `/?id=${id}`, ca: tls.cert, headers }
      const asked = https.get({ ...target, agent: false })
      asked.on('error', () => {})
      onTestFinished(() => void asked.destroy())
      const [response] = await once(asked, 'response')
      return new TestClient(response)
    }
    const ada = await connectTls('ada')
    expect((await attempt()).isLean).toBe(true)
    const bob = await connectTls('bob')
    expect((await attempt(2)).isLean).toBe(true)
    const eve = await connectTls('eve')
    expect((await attempt(3)).isLean).toBe(true)

    await pool.broadcast('x'.repeat(500_000))
    for (const client of [ada, bob, eve]) await client.until(({ data }) => data.length === 1)
    const closes = watchCloses(pool)
    eve.close()
    expect(await closes.next).toBe('client')
    await pool.remove('ada')
    expect(await ada.ended).toBe(true)
    const closed = new Promise(resolve => server.close(resolve))
    vi.advanceTimersByTime(30_000)
    expect(await bob.ended).toBe(true)
    await closed
    expect(closes.reasons).toEqual(['client', 'removed', 'drain'])
  })
})

describe('while a stream is open, its ctx, request and response', () => {
  setFlagsFromString('--expose-gc')
  const gc: () => void = runInNewContext('gc')

  /** The ones that are still alive after this many garbage collections. */
  async function survivors(lean: boolean) {
    const pool = testPool({ lean })
    const refs: Record<string, WeakRef<object>> = {}
    const opened = nextOpen(pool)
    const { origin } = await serveStreams({ pool }, ctx => {
      refs.ctx = new WeakRef(ctx)
      refs.req = new WeakRef(ctx.req)
      refs.res = new WeakRef(ctx.res)
    })
    const client = await connect(origin, '/?id=ada')
    await opened
    const alive = () => Object.keys(refs).filter(name => refs[name]?.deref() !== undefined)
    for (let i = 0; i < 20 && alive().length > 0; i++) {
      await turn()
      gc()
    }
    const left = alive()
    await pool.send('ada', 'still open')
    await client.until(({ data }) => data.includes('still open'))
    return left
  }

  test('are released if it is lean', async () => {
    expect(await survivors(true)).toEqual([])
  })

  test('are kept if it is ordinary', async () => {
    expect(await survivors(false)).toEqual(['ctx', 'req', 'res'])
  })
})
