import { once } from 'node:events'
import http from 'node:http'
import type { Socket } from 'node:net'
import Koa from 'koa'
import { type EventStream, sse } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import {
  closeOf,
  deferred,
  type Handler,
  nextOpen,
  rawGet,
  serveApp,
  watchCloses,
} from '../helpers/app.js'
import { connect, listen, rawConnection, serveStreams, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const byQuery = (ctx: Koa.Context) => ctx.query.id

describe('a client that', () => {
  test.each<[string, (socket: Socket) => void]>([
    ['resets its connection', socket => socket.resetAndDestroy()],
    ['closes its half and keeps listening', socket => socket.end()],
    ['closes its connection', socket => socket.destroy()],
  ])('%s is removed once and leaves nothing behind (fault 38)', async (_, go) => {
    const pool = testPool()
    const { port } = await serveStreams({ pool, channels: () => ['news'] })
    const closes = watchCloses(pool)
    const opened = nextOpen(pool)
    const socket = await rawGet(port, '/?id=ada')
    await opened

    go(socket)
    expect(await closes.next).toBe('client')

    await pool.broadcast('nobody hears it')
    expect(closes.reasons).toEqual(['client'])
    expect(pool.has('ada')).toBe(false)
    expect(pool.stats()).toMatchObject({
      clients: 0,
      streams: 0,
      channels: 0,
      closed: { client: 1 },
    })
  })

  test('closes its connection before its headers are complete never reaches the pool (fault 38)', async () => {
    const pool = testPool()
    const { port } = await serveStreams({ pool })
    const socket = await rawConnection(port)
    socket.resume().end('GET /?id=ada HTTP/1.1\r\nHo')
    await once(socket, 'close')
    expect(pool.stats()).toMatchObject({ opened: 0, streams: 0 })
  })

  test.each(['id', 'channels'] as const)(
    'disconnects while the option %s is evaluated is never admitted (fault 38)',
    async option => {
      const pool = testPool()
      const asked = deferred<Koa.Context>()
      const answer = deferred<[]>()
      const over = deferred()
      const handler = vi.fn()
      const { port } = await serveApp(
        (_, next) => next().finally(over.resolve),
        sse({
          pool,
          [option]: (ctx: Koa.Context) => {
            asked.resolve(ctx)
            return answer.promise.then(() => (option === 'id' ? 'ada' : []))
          },
        }),
        handler,
      )
      const socket = await rawGet(port, '/')
      const { req } = await asked.promise
      socket.resetAndDestroy()
      await closeOf(req.socket)
      answer.resolve([])
      await over.promise

      expect(handler).not.toHaveBeenCalled()
      expect(pool.stats()).toMatchObject({ opened: 0, streams: 0 })
    },
  )

  test('disconnects while the handler is still running is removed once (fault 38)', async () => {
    const pool = testPool()
    const closes = watchCloses(pool)
    const entered = deferred()
    const over = deferred()
    const { port, errors } = await serveApp(
      (_, next) => next().finally(over.resolve),
      sse({ pool, id: () => 'ada' }),
      (async ctx => {
        entered.resolve()
        await ctx.sse.closed
        expect(ctx.sse.send('too late')).toBe(false)
      }) satisfies Handler,
    )
    const socket = await rawGet(port, '/')
    await entered.promise
    expect(pool.has('ada')).toBe(true)
    socket.resetAndDestroy()
    await over.promise

    expect(closes.reasons).toEqual(['client'])
    expect(pool.size).toBe(0)
    expect(errors).toEqual([])
  })
})

describe('a handler that', () => {
  test.each<[string, (ctx: Koa.ParameterizedContext<unknown, { sse: EventStream }>) => unknown]>([
    ['throws before anything was sent', () => Promise.reject(new Error('secret'))],
    [
      'throws right after its first send',
      ctx => {
        ctx.sse.send('buffered')
        throw new Error('secret')
      },
    ],
  ])('%s is an ordinary 500 and its place is free again (fault 39)', async (_, fail) => {
    const pool = testPool({ maxClients: 1 })
    const { origin, errors } = await serveApp(sse({ pool, id: () => 'ada' }), async ctx =>
      fail(ctx),
    )
    for (const _ of [1, 2]) {
      const { status, text, headers } = await request(origin).get('/').expect(500)
      expect({ status, text }).toEqual({ status: 500, text: 'Internal Server Error' })
      expect(headers['content-type']).toBe('text/plain; charset=utf-8')
    }
    expect(errors.map(({ message }) => message)).toEqual(['secret', 'secret'])
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { error: 2 } })
  })

  test('refuses with ctx.throw keeps its status and message (fault 39)', async () => {
    const pool = testPool()
    const { origin, errors } = await serveApp(sse({ pool }), ctx => ctx.throw(402, 'Pay first'))
    await request(origin).get('/').expect(402, 'Pay first')
    expect(errors).toEqual([])
    expect(pool.connections).toBe(0)
  })

  test('throws after the opening is reported and its stream is cut (fault 39)', async () => {
    const pool = testPool()
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
    expect(client.text).not.toContain('sse.end')
  })
})

describe('content negotiation', () => {
  test('answers HEAD with the headers only, which takes no place (fault 40)', async () => {
    const pool = testPool()
    const handler = vi.fn()
    const { origin } = await serveApp(sse({ pool }), handler)
    const { text, headers } = await request(origin).head('/').expect(200)
    expect(text ?? '').toBe('')
    expect(headers['content-type']).toBe('text/event-stream; charset=utf-8')
    expect(headers['cache-control']).toBe('no-cache, no-transform')
    expect(handler).not.toHaveBeenCalled()
    expect(pool.stats().opened).toBe(0)
  })

  test.each(['application/json', 'text/event-stream;q=0', 'text/html, text/event-stream;q=0, */*'])(
    'answers Accept: %s with 406 (fault 40)',
    async accept => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool })
      await request(origin).get('/').set('Accept', accept).expect(406)
      expect(pool.stats()).toMatchObject({ opened: 0, refused: { type: 1 } })
    },
  )

  test.each([
    undefined,
    '*/*',
    'text/*',
    'text/event-stream',
    'text/html, text/event-stream;q=0.1',
  ])('answers Accept: %s with a stream (fault 40)', async accept => {
    const { origin } = await serveStreams({ pool: testPool() })
    const client = await connect(origin, '/', accept ? { headers: { accept } } : {})
    expect(client.status).toBe(200)
  })
})

describe('a stream is not cut by', () => {
  // A second connection that the limit does cut proves that the limit was applied.
  test.each<[string, http.ServerOptions & { timeout?: number }, string]>([
    ['headersTimeout', { headersTimeout: 100 }, 'GET / HTTP/1.1\r\nHo'],
    ['requestTimeout', { requestTimeout: 100, headersTimeout: 100 }, 'GET / HTTP/1.1\r\nHo'],
    ['keepAliveTimeout', { keepAliveTimeout: 100 }, 'GET /plain HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['timeout', { timeout: 100 }, 'GET /never HTTP/1.1\r\nHost: x\r\n\r\n'],
  ])('%s of the server (fault 43)', async (_, { timeout = 0, ...limits }, victim) => {
    const pool = testPool()
    const app = new Koa()
    app.use((ctx, next) => {
      if (ctx.path === '/never') return new Promise(() => {})
      if (ctx.path !== '/plain') return next()
      ctx.body = 'plain'
    })
    app.use(sse({ pool }))
    const server = http.createServer({ connectionsCheckingInterval: 20, ...limits }, app.callback())
    server.setTimeout(timeout)
    const { origin, port } = await listen(server)
    const client = await connect(origin, '/', { headers: { connection: 'keep-alive' } })

    const other = await rawConnection(port)
    other.resume().write(victim)
    await once(other, 'close')

    await pool.broadcast('still here')
    await client.until(({ data }) => data.includes('still here'))
  })
})

describe('a full pool', () => {
  test('rejects a client with 503 and Retry-After and never runs the handler (fault 44)', async () => {
    const pool = testPool({ maxClients: 1 })
    const handler = vi.fn()
    const { origin, errors } = await serveApp(sse({ pool }), handler)
    const first = await connect(origin)
    const { headers, text } = await request(origin).get('/').expect(503)

    expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1)
    expect(text).toMatch(/full/)
    expect(handler).toHaveBeenCalledTimes(1)
    expect(errors).toEqual([])
    expect(pool.stats()).toMatchObject({ opened: 1, refused: { full: 1 } })

    const closes = watchCloses(pool)
    first.close()
    await closes.next
    expect((await connect(origin)).status).toBe(200)
  })

  test("with overflow 'retry' answers 200 with a jittered retry and ends (fault 44)", async () => {
    const pool = testPool({ maxClients: 1 })
    const handler = vi.fn()
    const { origin } = await serveApp(sse({ pool, overflow: 'retry' }), handler)
    await connect(origin)
    const retries = new Set<string>()
    for (let i = 0; i < 5; i++) {
      const { headers, text } = await request(origin).get('/').expect(200)
      expect(headers['content-type']).toBe('text/event-stream; charset=utf-8')
      retries.add(/^retry: (\d{4,5})\n$/m.exec(text)?.[1] as string)
      expect(text).not.toMatch(/^(data|event|id)/m)
    }
    expect(retries).not.toContain(undefined)
    expect(retries.size).toBeGreaterThan(1)
    expect(handler).toHaveBeenCalledTimes(1)
    expect(pool.connections).toBe(1)
  })

  test('also refuses clients that were being identified when the last place was taken (fault 44)', async () => {
    const pool = testPool({ maxClients: 1 })
    const both = deferred()
    let asking = 0
    const { origin } = await serveStreams({
      pool,
      id: async ctx => {
        asking += 1
        if (asking === 2) both.resolve()
        await both.promise
        return ctx.query.id
      },
    })
    const clients = await Promise.all([connect(origin, '/?id=a'), connect(origin, '/?id=b')])
    expect(clients.map(({ status }) => status).sort()).toEqual([200, 503])
    expect(pool.connections).toBe(1)
  })

  test.each(['reject', 'retry'] as const)(
    'and a draining one do not run the handler with overflow %s (fault 44)',
    async overflow => {
      const pool = testPool()
      const handler = vi.fn()
      const { origin } = await serveApp(sse({ pool, overflow }), handler)
      void pool.close()
      const { text } = await request(origin).get('/').expect(200)
      expect(text).toMatch(/^retry: \d+$/m)
      expect(handler).not.toHaveBeenCalled()
    },
  )
})

describe('with the same id twice', () => {
  test('both tabs receive events if nothing limits them (fault 45)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const tabs = [await connect(origin, '/?id=ada'), await connect(origin, '/?id=ada')]
    await pool.send('ada', 'both')
    for (const tab of tabs) await tab.until(({ data }) => data.includes('both'))
  })

  test("'replace' ends the oldest stream for good, and its close leaves the new one registered (fault 45)", async () => {
    const pool = testPool({ maxStreamsPerClient: 1 })
    const closes = watchCloses(pool)
    const { origin } = await serveStreams({ pool })
    const old = await connect(origin, '/?id=ada')
    const young = await connect(origin, '/?id=ada')

    expect((await old.event('close')).id).toBe('sse.end')
    expect(await old.ended).toBe(true)
    expect(closes.reasons).toEqual(['replaced'])
    await pool.send('ada', 'for the new page')
    await young.until(({ data }) => data.includes('for the new page'))
    expect(pool.get('ada')?.streams.size).toBe(1)
    expect(old.data).not.toContain('for the new page')

    const headers = { 'Last-Event-ID': old.lastEventId }
    await request(origin).get('/?id=ada').set(headers).expect(204)
    expect(pool.get('ada')?.streams.size).toBe(1)
  })

  test("'replace' needs no extra place in a full pool (fault 45)", async () => {
    const pool = testPool({ maxStreamsPerClient: 1, maxClients: 1 })
    const { origin } = await serveStreams({ pool })
    const old = await connect(origin, '/?id=ada')
    expect((await connect(origin, '/?id=ada')).status).toBe(200)
    expect(await old.ended).toBe(true)
    expect((await connect(origin, '/?id=bob')).status).toBe(503)
    expect(pool.connections).toBe(1)
  })

  test("'reject' answers the second client with 429 and keeps the first (fault 45)", async () => {
    const pool = testPool({ maxStreamsPerClient: 1, onDuplicate: 'reject' })
    const { origin } = await serveStreams({ pool })
    const first = await connect(origin, '/?id=ada')
    await request(origin).get('/?id=ada').expect(429)
    await pool.send('ada', 'still here')
    await first.until(({ data }) => data.includes('still here'))
    expect(pool.stats().refused.duplicate).toBe(1)
  })

  test('a removal from before the new stream came does not cut it (fault 45)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, replay: 'all' })
    const old = await connect(origin, '/?id=ada')
    await pool.remove('ada')
    expect((await old.event('close')).id).toBe('sse.end')

    const young = await connect(origin, '/?id=ada')
    await pool.send('ada', 'welcome back')
    await young.until(({ data }) => data.includes('welcome back'))
  })
})

describe('a send', () => {
  test('to an unknown id resolves to an id and throws nothing (fault 46)', async () => {
    const pool = testPool()
    expect(await pool.send('nobody', 'hello')).toEqual(expect.any(String))
    expect(await pool.remove('nobody')).toEqual(expect.any(String))
    expect(await pool.channel('empty').send('hello')).toEqual(expect.any(String))
    expect(pool.stats().deliveries).toBe(0)
  })

  test('after the close returns false and throws nothing (fault 46)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const opened = nextOpen(pool)
    const closes = watchCloses(pool)
    const client = await connect(origin)
    const stream = await opened
    client.close()
    await closes.next
    expect(stream.send('too late')).toBe(false)
    expect(stream.comment('too late')).toBe(false)
    expect(await stream.drained()).toBe(false)
    stream.end()
    stream.join('news').leave('news')
    expect(pool.stats().channels).toBe(0)
    await stream.stream(['too late'])
  })
})

describe('closing a pool', () => {
  test('twice closes it once, and a later publish is a typed error (fault 47)', async () => {
    const pool = testPool()
    const errors: Error[] = []
    pool.on('error', error => errors.push(error))
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')

    const closed = pool.close()
    expect(pool.close({ spread: 1000 })).toBe(closed)
    await closed
    expect(await client.ended).toBe(true)
    expect(client.text).toMatch(/^retry: \d{4}\n$/m)
    expect(client.text).not.toContain('sse.end')
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { drain: 1 } })

    const calls = [
      pool.send('ada', 'x'),
      pool.broadcast('x'),
      pool.remove('ada'),
      pool.channel('c').send('x'),
    ]
    for (const call of calls)
      await expect(call).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
    expect(errors).toHaveLength(4)
  })

  test('with a spread does not end all streams at once and resolves when all are gone (fault 47)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const clients = await Promise.all(Array.from({ length: 6 }, () => connect(origin)))
    const closed = pool.close({ spread: 100 })
    expect(pool.connections).toBeGreaterThan(0)
    await closed
    expect(pool.connections).toBe(0)
    expect(await Promise.all(clients.map(({ ended }) => ended))).toEqual(Array(6).fill(true))
  })
})

describe('listeners and filters:', () => {
  test('a listener that throws is an error event and all other clients are served (fault 48)', async () => {
    const pool = testPool()
    const errors: string[] = []
    const later = vi.fn()
    pool.on('error', ({ message }) => errors.push(message))
    for (const event of ['open', 'close'] as const) {
      pool.on(event, () => {
        throw new Error(`in ${event}`)
      })
      pool.on(event, later)
    }
    const { origin, errors: appErrors } = await serveApp(sse({ pool, id: byQuery }))
    const ada = await connect(origin, '/?id=ada')
    const bob = await connect(origin, '/?id=bob')
    void pool.remove('ada')
    void pool.broadcast('all the same')
    await bob.until(({ data }) => data.includes('all the same'))
    expect(await ada.ended).toBe(true)

    expect(errors).toEqual(['in open', 'in open', 'in close'])
    expect(later).toHaveBeenCalledTimes(3)
    expect(appErrors).toEqual([])
  })

  test('an error listener that throws ends neither the process nor the send (fault 48)', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const pool = testPool()
    pool.on('error', () => {
      throw new Error('in the error listener')
    })
    const heard = new Promise<Error>(resolve => pool.on('error', resolve))
    await pool.close()
    await expect(pool.broadcast('x')).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
    expect((await heard).message).toMatch(/closed/)
    expect(warn.mock.calls).toEqual([[new Error('in the error listener')]])
  })

  test('an authorize filter that throws leaves its stream open and the others served (fault 48)', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({
      authorize: ({ id }) => {
        if (id === 'ada') throw new Error('in authorize')
        return id !== 'eve'
      },
    })
    const errors: string[] = []
    pool.on('error', ({ message }) => errors.push(message))
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const eve = await connect(origin, '/?id=eve')
    const bob = await connect(origin, '/?id=bob')
    vi.advanceTimersByTime(15_000)
    await eve.ended
    await pool.broadcast('go on')
    for (const client of [ada, bob]) await client.until(({ data }) => data.includes('go on'))
    expect(errors).toEqual(['in authorize'])
  })

  test('streams that close or open in the middle of a broadcast make it skip nobody (fault 49)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, channels: () => ['news'] })
    const join = (id: number) => connect(origin, `/?id=${id}`)
    const zero = await join(0)
    const one = await join(1)
    const two = await join(2)
    const three = await join(3)
    const four = await join(4)
    const five = await join(5)
    const streamOf = (id: string) => [...(pool.get(id)?.streams ?? [])][0] as EventStream

    pool.on('close', ({ id }) => {
      if (id !== '1') return
      streamOf('0').leave('news').join('news')
      streamOf('2').end()
      streamOf('3').leave('news')
    })
    void pool.remove('1')
    void pool.broadcast('first')
    void pool.broadcast('second', { except: '4' })
    void pool.channel('news').send('third')

    expect(await one.ended).toBe(true)
    expect(await two.ended).toBe(true)
    await pool.broadcast('end')
    for (const client of [zero, three, four, five]) {
      await client.until(({ data }) => data.includes('end'))
    }

    expect(five.data).toEqual(['first', 'second', 'third', 'end'])
    expect(four.data).toEqual(['first', 'third', 'end'])
    expect(two.data.slice(0, 2)).toEqual(['first', 'second'])
    expect(zero.data.slice(0, 2)).toEqual(['first', 'second'])
    expect(three.data.slice(0, 2)).toEqual(['first', 'second'])
  })

  test('an open listener that broadcasts reaches everyone, including the new client (fault 49)', async () => {
    const pool = testPool()
    pool.on('open', ({ id }) => void pool.broadcast(`${id} is here`))
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    await ada.until(({ data }) => data.includes('ada is here'))
    const bob = await connect(origin, '/?id=bob')
    for (const client of [ada, bob]) await client.until(({ data }) => data.includes('bob is here'))
    expect(bob.data).toEqual(['bob is here'])
  })
})

test('with the clock set back an hour, ids still rise and heartbeats continue (fault 53)', async () => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] })
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await pool.broadcast('before')
  await client.until(({ data }) => data.includes('before'))
  const { lastEventId } = client

  vi.setSystemTime(Date.now() - 3_600_000)
  await pool.broadcast('after')
  await client.until(({ data }) => data.includes('after'))
  const beats = () => client.events.filter(({ event }) => event === 'sse.cursor').length
  const before = beats()
  vi.advanceTimersByTime(30_000)
  await client.until(() => beats() > before)

  const resumed = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': lastEventId } })
  await resumed.until(({ data }) => data.includes('after'))
  expect(resumed.data).toEqual(['after'])
})

describe('a client id', () => {
  test.each([
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '0',
    'ä',
    'a b',
    '\u{1f600}',
  ])('%s is an ordinary string (fault 56)', async id => {
    const pool = testPool()
    expect(pool.has(id)).toBe(false)
    expect(pool.get(id)).toBeUndefined()
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, `/?id=${encodeURIComponent(id)}`)
    await pool.send(id, 'hello')
    await client.until(({ data }) => data.includes('hello'))
    expect([...pool.keys()]).toEqual([id])
    expect({}).not.toHaveProperty('streams')
  })

  test.each([
    ['in an array', 'id=a&id=b'],
    ['of 10 KB', `id=${'x'.repeat(10_240)}`],
    ['of 257 characters', `id=${'x'.repeat(257)}`],
    ['that is empty', 'id='],
    ['with a line break', 'id=a%0Adata:%20forged'],
    ['with a NUL', 'id=a%00'],
    ['with DEL', 'id=a%7F'],
  ])('%s is answered with 400 (fault 56)', async (_, query) => {
    const pool = testPool()
    const handler = vi.fn()
    const { origin, errors } = await serveApp(sse({ pool, id: byQuery }), handler)
    const { text } = await request(origin).get(`/?${query}`).expect(400)
    expect(text.length).toBeLessThan(200)
    expect(handler).not.toHaveBeenCalled()
    expect(errors).toEqual([])
    expect(pool.stats()).toMatchObject({ opened: 0, refused: { id: 1 } })
  })
})
