import { once } from 'node:events'
import http from 'node:http'
import { Readable } from 'node:stream'
import Router from '@koa/router'
import type { Middleware } from 'koa'
import { ClientPool, type EventStream, type SseOptions, sse } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Handler, nextOpen, serveApp, watchCloses } from '../helpers/app.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const cursors = (client: TestClient) => client.events.filter(({ event }) => event === 'sse.cursor')

describe('sse() as a middleware', () => {
  test('makes its own pool from pool options and exposes it', async () => {
    const middleware = sse({ maxClients: 2, pingInterval: 3000, id: () => 'ada' })
    onTestFinished(() => middleware.pool.close())
    expect(middleware.pool).toBeInstanceOf(ClientPool)
    const { origin } = await serveApp(middleware)
    const client = await connect(origin)
    await middleware.pool.send('ada', 'hello')
    await client.until(({ data }) => data.includes('hello'))
  })

  test('exposes the pool that it was given', () => {
    const pool = testPool()
    expect(sse({ pool }).pool).toBe(pool)
  })

  test('can be mounted on a route that has no handler', async () => {
    const pool = testPool()
    const router = new Router()
    router.get('/events', sse({ pool, id: ctx => ctx.query.id }))
    const { origin } = await serveApp(router.routes() as Middleware)
    const client = await connect(origin, '/events?id=ada')
    await pool.send('ada', 'hello')
    await client.until(({ data }) => data.includes('hello'))
    await request(origin).get('/other').expect(404)
    await request(origin).post('/events').expect(404)
  })

  test.each<[string, (router: Router) => Middleware]>([
    [
      'a 404 page',
      () => ctx => {
        ctx.status = 404
        ctx.body = 'nowhere'
      },
    ],
    ['a 404 that is thrown', () => ctx => ctx.throw(404)],
    [
      'the fallback of a single-page app',
      () => ctx => {
        ctx.type = 'html'
        ctx.body = Readable.from(['<!doctype html>'])
      },
    ],
    [
      '/:page',
      router => {
        router.get('/:page', ctx => {
          ctx.body = 'page'
        })
        return (_, next) => next()
      },
    ],
  ])(
    'wins over %s that is mounted after a route without a handler (fault 83)',
    async (_, mount) => {
      const pool = testPool()
      const router = new Router()
      router.get('/events', sse({ pool }))
      const fallback = mount(router)
      const { origin } = await serveApp(router.routes() as Middleware, fallback)
      const client = await connect(origin, '/events')
      await pool.broadcast('hello')
      await client.until(({ data }) => data.includes('hello'))
    },
  )

  test('runs a handler that is registered by a call of its own', async () => {
    const router = new Router()
    router.get('/events', sse({ pool: testPool() }))
    router.get('/events', ctx => void ctx.sse.send('handled'))
    const { origin } = await serveApp(router.routes() as Middleware)
    const client = await connect(origin, '/events')
    await client.until(({ data }) => data.includes('handled'))
  })

  test('streams the response to a POST too', async () => {
    const { origin } = await serveStreams({ pool: testPool() }, ctx => {
      ctx.sse.send(ctx.method)
      ctx.sse.end()
    })
    const client = await connect(origin, '/', { method: 'POST' })
    await client.ended
    expect(client.data).toEqual(['POST', ''])
  })

  test('opens with the documented headers and sends a comment at once', async () => {
    const { origin } = await serveStreams({ pool: testPool() })
    const client = await connect(origin, '/', { headers: { connection: 'keep-alive' } })
    await client.until(({ comments }) => comments.includes('ok'))
    expect(client.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      connection: 'keep-alive',
    })
    expect(client.text).toMatch(/^:ok\n/)
    expect(
      (await connect(origin, '/', { headers: { connection: 'close' } })).headers.connection,
    ).toBe('close')
  })

  test.each([
    ['no-store', 'no-store, no-transform'],
    ['private, No-Transform', 'private, No-Transform'],
    ['', 'no-cache, no-transform'],
  ])("adds no-transform to the app's own Cache-Control: %s (fault 84)", async (own, expected) => {
    const { origin } = await serveApp(
      (ctx, next) => {
        if (own !== '') ctx.set('Cache-Control', own)
        ctx.set('X-Accel-Buffering', 'no')
        return next()
      },
      sse({ pool: testPool() }),
    )
    expect((await connect(origin)).headers['cache-control']).toBe(expected)
  })

  test("keeps the app's own headers, wherever they are set", async () => {
    const { origin } = await serveApp(
      async (ctx, next) => {
        ctx.set('Cache-Control', 'no-store')
        await next()
        ctx.set('X-Late', 'kept')
        ctx.cookies.set('late', 'kept')
      },
      sse({ pool: testPool() }),
      (ctx => {
        ctx.set('X-Accel-Buffering', 'yes')
        ctx.sse.send('hello')
      }) satisfies Handler,
    )
    const client = await connect(origin)
    expect(client.headers).toMatchObject({
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'yes',
      'x-late': 'kept',
      'set-cookie': [expect.stringMatching(/^late=kept/)],
    })
    await client.until(({ data }) => data.includes('hello'))
  })

  test.each<[string, number, Handler]>([
    ['a body', 200, ctx => Object.assign(ctx, { body: 'instead' })],
    ['a status', 409, ctx => Object.assign(ctx, { status: 409 })],
    ['a redirect', 302, ctx => ctx.redirect('/elsewhere')],
    [
      'a body after a send',
      200,
      ctx => {
        ctx.sse.send('lost')
        ctx.body = 'instead'
      },
    ],
  ])(
    'leaves the response to a handler that gives %s, and frees the place',
    async (_, status, handler) => {
      const pool = testPool({ maxClients: 1 })
      const { origin, errors } = await serveApp(sse({ pool }), handler)
      for (const _ of [1, 2]) {
        const answer = await request(origin)
          .get('/')
          .redirects(0)
          .ok(() => true)
        expect(answer.status).toBe(status)
        expect(answer.headers['content-type']).not.toMatch(/event-stream/)
        expect(answer.text).not.toContain('lost')
      }
      expect(errors).toEqual([])
      expect(pool.connections).toBe(0)
    },
  )

  test('leaves the response to a handler that takes it over', async () => {
    const pool = testPool()
    const { origin } = await serveApp(sse({ pool }), ctx => {
      ctx.respond = false
      ctx.res.writeHead(200, { 'Content-Type': 'text/plain' }).end('by hand')
    })
    await request(origin).get('/').expect(200, 'by hand')
    expect(pool.connections).toBe(0)
  })

  test('must not be mounted twice on one request', async () => {
    const pool = testPool()
    const { origin, errors } = await serveApp(sse({ pool }), sse({ pool }))
    await request(origin).get('/').expect(500)
    expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('mounted twice')])
    expect(pool.connections).toBe(0)
  })
})

describe('option id', () => {
  test.each<[string, SseOptions['id'], string | RegExp]>([
    ['a string', () => 'ada', 'ada'],
    ['a number', () => 42, '42'],
    ['zero', () => 0, '0'],
    ['a promise', async () => 'ada', 'ada'],
    ['null', () => null, /^[0-9a-f]{8}-[0-9a-f-]{27}$/],
    ['undefined', () => undefined, /^[0-9a-f]{8}-[0-9a-f-]{27}$/],
    ['nothing at all', undefined, /^[0-9a-f]{8}-[0-9a-f-]{27}$/],
  ])('may give %s', async (_, id, expected) => {
    const pool = testPool()
    const { origin } = await serveApp(sse({ pool, ...(id && { id }) }), (ctx => {
      expect(ctx.sse.client).toBe(pool.get(ctx.sse.id))
      ctx.sse.send(ctx.sse.id)
    }) satisfies Handler)
    const client = await connect(origin)
    await client.until(({ data }) => data.length === 1)
    expect(client.data[0]).toMatch(expected)
    expect(pool.has(client.data[0] as string)).toBe(true)
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY, {}, true, ['a']])(
    'is answered with 400 if it gives %o',
    async given => {
      const { origin } = await serveApp(sse({ pool: testPool(), id: () => given as string }))
      await request(origin)
        .get('/')
        .expect(400, /^The id must be 1 to 256 characters/)
    },
  )

  test('may refuse the client with ctx.throw', async () => {
    const pool = testPool()
    const { origin } = await serveApp(sse({ pool, id: ctx => ctx.throw(401, 'Who are you?') }))
    await request(origin).get('/').expect(401, 'Who are you?')
    expect(pool.stats().opened).toBe(0)
  })
})

describe('option channels', () => {
  test('joins its channels before the replay', async () => {
    const pool = testPool()
    await pool.channel('news').send('before')
    await pool.channel('sports').send('not for you')
    const { origin } = await serveStreams({ pool, replay: 'all', channels: async () => ['news'] })
    const client = await connect(origin)
    await pool.channel('news').send('after')
    await client.until(({ data }) => data.includes('after'))
    expect(client.data).toEqual(['before', 'after'])
  })

  test('counts a name given twice once', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, channels: () => ['news', 'news'] })
    const client = await connect(origin)
    await pool.channel('news').send('once')
    await pool.broadcast('end')
    await client.until(({ data }) => data.includes('end'))
    expect(client.data).toEqual(['once', 'end'])
  })

  test.each(['a\nb', '', 'sse.x', 'a\u200bb'])(
    'is answered with 400 if it names a channel %j',
    async name => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool, channels: () => [name] })
      await request(origin).get('/').expect(400)
      expect(pool.stats()).toMatchObject({ opened: 0, streams: 0, channels: 0 })
    },
  )
})

describe('option accept', () => {
  const ask = (origin: string) =>
    connect(origin, '/', { method: 'POST', headers: { Accept: 'application/json' } })

  test("'any' gives a POST with Accept: application/json a stream (fault 80)", async () => {
    const { origin } = await serveStreams({ pool: testPool(), accept: 'any' }, ctx => {
      ctx.sse.send({ data: { token: 'a' } })
    })
    const client = await ask(origin)
    expect(client.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    await client.until(({ data }) => data.includes('{"token":"a"}'))
  })

  test("'event-stream', the default, answers it with 406", async () => {
    const { origin } = await serveStreams({ pool: testPool() })
    expect((await ask(origin)).status).toBe(406)
  })

  test("'any' cannot be combined with longPoll", () => {
    expect(() => sse({ accept: 'any', longPoll: true })).toThrow(/"longPoll".*drop "accept: 'any'"/)
  })
})

describe('option matchQuery', () => {
  test.each(['/?sse', '/?sse=', '/?sse=0', '/?a=1&sse=x'])('gives %s a stream', async path => {
    const { origin } = await serveApp(sse({ pool: testPool(), matchQuery: 'sse' }))
    expect((await connect(origin, path)).headers['content-type']).toMatch(/event-stream/)
  })

  test.each(['/', '/?SSE', '/?toString', '/?a=sse'])('lets %s pass without ctx.sse', async path => {
    const { origin } = await serveApp(sse({ pool: testPool(), matchQuery: 'sse' }), ctx => {
      ctx.body = { hasStream: ctx.sse !== undefined }
    })
    await request(origin).get(path).expect(200, { hasStream: false })
  })

  test('ignores keys that every object inherits', async () => {
    const { origin } = await serveApp(sse({ pool: testPool(), matchQuery: 'toString' }))
    await request(origin).get('/').expect(404)
  })
})

describe('option retry', () => {
  test('tells every browser the same number', async () => {
    const { origin } = await serveStreams({ pool: testPool(), retry: 4321 })
    const client = await connect(origin)
    await client.until(({ text }) => text.includes('\n\n'))
    expect(client.text).toMatch(/^:ok\nretry: 4321\n/)
  })

  test('draws a number from a range for each stream, both ends included', async () => {
    const random = vi.spyOn(Math, 'random')
    const { origin } = await serveStreams({ pool: testPool(), retry: [1000, 1999] })
    for (const [drawn, told] of [
      [0, 1000],
      [0.5, 1500],
      [0.9999999, 1999],
    ] as const) {
      random.mockReturnValue(drawn)
      const client = await connect(origin)
      await client.until(({ text }) => text.includes(`retry: ${told}\n`))
    }
  })
})

describe('option replay', () => {
  test.each([
    ['missed', ['live']],
    ['latest', ['b2', 'to ada 2', 'k2', 'news', 'live']],
    ['all', ['b1', 'to ada 1', 'b2', 'to ada 2', 'k2', 'news', 'live']],
  ] as const)("'%s' decides what a stream without a cursor gets", async (replay, expected) => {
    const pool = testPool()
    await pool.broadcast('b1')
    await pool.send('ada', { data: 'k1', key: 'k' })
    await pool.send('ada', 'to ada 1')
    await pool.send('bob', 'to bob')
    await pool.broadcast('b2')
    await pool.send('ada', 'to ada 2')
    await pool.send('ada', { data: 'k2', key: 'k' })
    await pool.channel('news').send('news')
    const { origin } = await serveStreams({ pool, replay, channels: () => ['news'] })
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('live')
    await client.until(({ data }) => data.includes('live'))
    expect(client.data).toEqual(expected)
  })

  test('yields to a cursor', async () => {
    const pool = testPool()
    await pool.broadcast('seen')
    const id = await pool.broadcast('seen, too')
    await pool.broadcast('missed')
    const { origin } = await serveStreams({ pool, replay: 'all' })
    const client = await connect(origin, '/', { headers: { 'Last-Event-ID': id } })
    await client.until(({ data }) => data.includes('missed'))
    expect(client.data).toEqual(['missed'])
  })
})

describe('the cursor', () => {
  test('is taken from the header, or else from the query', async () => {
    const pool = testPool()
    const seen: string[] = []
    const { origin } = await serveStreams({ pool }, ctx => void seen.push(ctx.sse.lastEventId))
    await connect(origin, '/?lastEventId=query', { headers: { 'Last-Event-ID': 'header' } })
    await connect(origin, '/?lastEventId=query', { headers: { 'Last-Event-ID': '' } })
    await connect(origin, '/?lastEventId=a&lastEventId=b')
    await connect(origin)
    expect(seen).toEqual(['header', 'query', '', ''])
  })

  test('of an ended stream is answered with 204 before the app or the log is called, so a client that asks again and again costs little (fault 119)', async () => {
    const pool = testPool()
    const called = vi.fn()
    const { origin } = await serveApp(
      sse({ pool, id: called, channels: called, replay: 'all' }),
      called,
    )
    for (let i = 0; i < 20; i++) {
      await request(origin).get('/').set('Last-Event-ID', 'sse.end').expect(204)
    }
    expect(called).not.toHaveBeenCalled()
    expect(pool.stats()).toMatchObject({ opened: 0, replays: 0, gaps: 0 })
  })

  test('of an ended stream opens a new one if a page has stored it and sends it in the query (fault 102)', async () => {
    const pool = testPool()
    const seen: string[] = []
    const { origin } = await serveStreams({ pool }, ctx => void seen.push(ctx.sse.lastEventId))
    const client = await connect(origin, '/?id=ada&lastEventId=sse.end')
    await pool.send('ada', 'hello')
    await client.until(({ data }) => data.includes('hello'))
    expect(client.text).not.toContain('sse.gap')
    expect(seen).toEqual([''])
  })

  test('of an ended stream is answered with 204 even by a full or closed pool', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await pool.close()
    await request(origin).get('/').set('Last-Event-ID', 'sse.end').expect(204)
  })
})

describe('option resume: false', () => {
  test('leaves ids and replay to the app: no id, no replay, no gap, heartbeats without an id', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool()
    const old = await pool.broadcast('old')
    await pool.broadcast('missed')
    const seen: string[] = []
    const { origin } = await serveStreams({ pool, resume: false }, ctx => {
      seen.push(ctx.sse.lastEventId)
      ctx.sse.send({ id: 7, data: 'mine' })
    })
    for (const id of [old, 'unknown']) {
      const client = await connect(origin, '/', { headers: { 'Last-Event-ID': id } })
      await client.until(({ data }) => data.includes('mine'))
      await pool.broadcast('live')
      await client.until(({ data }) => data.includes('live'))
      vi.advanceTimersByTime(30_000)
      await client.until(() => cursors(client).length > 0)
      expect(client.data).toEqual(['mine', 'live'])
      expect(client.lastEventId).toBe('7')
      expect(client.text).not.toContain('sse.gap')
      client.close()
    }
    expect(seen).toEqual([old, 'unknown'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('keeps the end id, so that an ended stream stays away', async () => {
    const { origin } = await serveStreams({ pool: testPool(), resume: false }, ctx => ctx.sse.end())
    const client = await connect(origin)
    await client.ended
    expect(client.lastEventId).toBe('sse.end')
    await request(origin).get('/').set('Last-Event-ID', 'sse.end').expect(204)
  })
})

describe('option closeEvent', () => {
  test('names the event that ends the stream', async () => {
    const { origin } = await serveStreams({ pool: testPool(), closeEvent: 'bye' }, ctx => {
      ctx.sse.end({ why: 'done' })
    })
    const client = await connect(origin)
    expect(await client.event('bye')).toMatchObject({ id: 'sse.end', data: '{"why":"done"}' })
    expect(await client.ended).toBe(true)
  })
})

describe('option maxAge', () => {
  test('rotates a stream at a random age, and the browser comes back', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    vi.spyOn(Math, 'random').mockReturnValue(0.5)
    const pool = testPool()
    const closes = watchCloses(pool)
    const { origin } = await serveStreams({ pool, maxAge: [60_000, 120_000] })
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('seen')
    await client.until(({ data }) => data.includes('seen'))
    vi.advanceTimersByTime(89_999)
    expect(pool.connections).toBe(1)
    vi.advanceTimersByTime(2)
    expect(await closes.next).toBe('rotated')
    expect(await client.ended).toBe(true)
    expect(client.text).not.toContain('sse.end')

    await pool.broadcast('missed')
    const headers = { 'Last-Event-ID': client.lastEventId }
    const back = await connect(origin, '/?id=ada', { headers })
    await back.until(({ data }) => data.includes('missed'))
    expect(back.data).toEqual(['missed'])
  })

  test('leaves no timer behind if a stream closes earlier', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const pool = testPool()
    const opened = nextOpen(pool)
    const { origin } = await serveStreams({ pool, maxAge: [60_000, 60_000] })
    const before = vi.getTimerCount()
    const client = await connect(origin)
    const stream = await opened
    expect(vi.getTimerCount()).toBe(before + 1)
    client.close()
    await stream.closed
    expect(vi.getTimerCount()).toBe(before)
  })
})

describe('at shutdown', () => {
  test('server.close() finishes, because streams of a server that stopped listening are drained', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const pool = testPool({ pingInterval: 5000 })
    const { origin, server } = await serveStreams({ pool })
    const clients = await Promise.all([1, 2, 3].map(() => connect(origin)))
    const closed = once(server, 'close')
    server.close()
    expect(pool.connections).toBe(3)
    vi.advanceTimersByTime(5000)
    await closed
    for (const client of clients) {
      expect(await client.ended).toBe(true)
      expect(client.text).toMatch(/^retry: \d{4}\n$/m)
      expect(client.text).not.toContain('sse.end')
    }
    expect(pool.stats().closed.drain).toBe(3)
  })

  test('server.close() finishes even if browsers keep the connections of drained streams', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { origin, server } = await serveStreams({ pool: testPool() })
    server.keepAliveTimeout = 0
    const agent = new http.Agent({ keepAlive: true })
    onTestFinished(() => agent.destroy())
    const client = await connect(origin, '/', { agent })
    const closed = once(server, 'close')
    server.close()
    vi.advanceTimersByTime(15_000)
    expect(await client.ended).toBe(true)
    await closed
  })

  test('a stream that is refused while the pool closes may come back', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, overflow: 'retry' })
    const client = await connect(origin)
    await pool.close({ spread: 0 })
    expect(await client.ended).toBe(true)
    await request(origin)
      .get('/')
      .expect(200, /^:draining\nretry: \d+\n$/)
    expect(pool.stats().refused.draining).toBe(1)
  })

  test('a pool that closes while a handler runs ends its stream when that opens', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool }, async ctx => {
      ctx.sse.send('before')
      void pool.close()
      expect(ctx.sse.send('after')).toBe(false)
    })
    const client = await connect(origin)
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['before'])
    expect(client.text).toMatch(/^retry: \d{4}\n$/m)
  })
})

describe("the pool's events", () => {
  test('start is emitted once a stream is really open, and not for one that its handler refuses (fault 104)', async () => {
    const pool = testPool()
    const seen: string[] = []
    pool.on('open', ({ id }) => seen.push(`open ${id}`))
    pool.on('start', ({ id, isOpen }) => seen.push(`start ${id} ${isOpen}`))
    pool.on('close', ({ id }) => seen.push(`close ${id}`))
    const { origin } = await serveStreams({ pool }, async ctx => {
      const { id } = ctx.sse
      if (id === 'refused') ctx.throw(403)
      if (id === 'answered') ctx.status = 409
      if (id === 'busy') {
        ctx.sse.send('early')
        await ctx.sse.closed
      }
      seen.push(`handled ${id}`)
    })
    await request(origin).get('/?id=refused').expect(403)
    await request(origin).get('/?id=answered').expect(409)
    expect(seen).toEqual([
      ...['open refused', 'close refused'],
      ...['open answered', 'handled answered', 'close answered'],
    ])
    seen.length = 0
    await connect(origin, '/?id=ada')
    const busy = await connect(origin, '/?id=busy')
    expect(seen).toEqual([
      ...['open ada', 'handled ada', 'start ada true'],
      ...['open busy', 'start busy true'],
    ])
    const { next } = watchCloses(pool)
    busy.close()
    await next
    expect(seen).toContain('close busy')
  })

  test('start is not emitted for a stream that ends as it opens, and close is (fault 104)', async () => {
    const pool = testPool()
    const started = vi.fn()
    pool.on('start', started)
    const { next } = watchCloses(pool)
    const { origin } = await serveStreams({ pool }, ctx => ctx.sse.end())
    await connect(origin)
    expect(await next).toBe('end')
    expect(started).not.toHaveBeenCalled()
  })

  test('open and close are emitted once for each stream, in this order', async () => {
    const pool = testPool()
    const seen: [string, EventStream][] = []
    pool.on('open', stream => seen.push(['open', stream]))
    pool.on('close', (stream, reason) => seen.push([reason, stream]))
    const { origin } = await serveStreams({ pool }, ctx => {
      if (ctx.query.id === 'short') ctx.sse.end()
    })
    const short = await connect(origin, '/?id=short')
    await short.ended
    expect(seen.map(([what]) => what)).toEqual(['open', 'end'])
    const long = await connect(origin, '/?id=long')
    const { next } = watchCloses(pool)
    long.close()
    await next
    expect(seen.map(([what, { id }]) => `${what} ${id}`)).toEqual([
      'open short',
      'end short',
      'open long',
      'client long',
    ])
  })
})

test('something that merely looks like a pool is refused when the route is made', () => {
  const lookalike = { broadcast: () => {} } as unknown as ClientPool
  expect(() => sse({ pool: lookalike })).toThrow(
    'option "pool" must be a ClientPool; got an object',
  )
})
