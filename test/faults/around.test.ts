import http from 'node:http'
import cors from '@koa/cors'
import Koa3, { type Middleware } from 'koa'
import compress from 'koa-compress'
import conditional from 'koa-conditional-get'
import etag from 'koa-etag'
import helmet from 'koa-helmet'
import logger from 'koa-logger'
import responseTime from 'koa-response-time'
import session from 'koa-session'
import { sse } from 'koa-sse-pool'
import Koa2 from 'koa2'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { closeOf, deferred, type Handler, rawGet, watchCloses } from '../helpers/app.js'
import { connect, listen, testPool } from '../helpers/server.js'

afterEach(() => {
  vi.restoreAllMocks()
})

/** A session store whose calls take turns of the event loop, as those of a database would. */
function slowStore() {
  const sessions = new Map<string, unknown>()
  const turns = async () => {
    for (let i = 0; i < 3; i++) await new Promise(resolve => setImmediate(resolve))
  }
  return {
    get: (key: string) => turns().then(() => sessions.get(key)),
    set: (key: string, value: unknown) => turns().then(() => void sessions.set(key, value)),
    destroy: (key: string) => turns().then(() => void sessions.delete(key)),
  }
}

type Store = ReturnType<typeof slowStore>

describe.each([
  ['3', Koa3],
  ['2.16', Koa2],
])('on Koa %s', (_, Koa) => {
  /** The middleware that people commonly put around their routes, then `outer`, the stream and its handler. */
  async function serve({
    outer = (_, next) => next(),
    handler = (_, next) => next(),
    store,
  }: {
    outer?: Middleware
    handler?: Handler
    store?: Store | undefined
  } = {}) {
    const pool = testPool()
    const consoleError = vi.spyOn(console, 'error').mockImplementation(() => {})
    // koa-etag announces its successor there.
    vi.spyOn(console, 'warn').mockImplementation(() => {})
    const logged: string[] = []
    const failed = deferred()
    const onError = vi.fn((_: Error) => failed.resolve())
    const app = new Koa()
    app.keys = ['test']
    app.on('error', onError)
    app.use(logger(text => logged.push(text)))
    app.use(responseTime())
    app.use(compress({ threshold: 0 }))
    app.use(conditional())
    app.use(etag())
    app.use(helmet())
    app.use(cors({ credentials: true }))
    app.use(session(store ? { store } : {}, app))
    app.use(outer)
    app.use(sse({ pool, id: () => 'ada' }) as unknown as Middleware)
    app.use(handler as Middleware)
    return {
      pool,
      failed: failed.promise,
      onError,
      /** Asserts that no error reached the app or the console. */
      expectQuiet() {
        expect(onError).not.toHaveBeenCalled()
        expect(consoleError).not.toHaveBeenCalled()
        expect(logged.join()).not.toContain('xxx')
      },
      ...(await listen(http.createServer(app.callback()))),
    }
  }

  const browser = {
    headers: {
      Origin: 'https://app.example',
      Accept: 'text/event-stream',
      'Accept-Encoding': 'gzip, deflate, br',
      'If-None-Match': '"x"',
    },
  }

  test.each([
    ['in the cookie', undefined],
    ['in an asynchronous store', slowStore()],
  ])(
    'headers and cookies of all surrounding middleware arrive, and frames at once, with the session %s (fault 41)',
    async (_, store) => {
      const { pool, origin, expectQuiet } = await serve({
        store,
        handler: ctx => {
          const { session } = ctx as unknown as { session: { visits?: number } }
          session.visits = (session.visits ?? 0) + 1
          ctx.sse.send(`visit ${session.visits}`)
        },
      })
      const client = await connect(origin, '/', browser)

      expect(client.status).toBe(200)
      expect(client.headers).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'access-control-allow-origin': 'https://app.example',
        'access-control-allow-credentials': 'true',
        'x-content-type-options': 'nosniff',
        'x-response-time': expect.stringMatching(/ms$/),
        'set-cookie': expect.arrayContaining([expect.stringMatching(/^koa\.sess=/)]),
      })
      expect(client.headers.vary).toMatch(/Origin/)
      for (const header of ['content-encoding', 'content-length', 'etag']) {
        expect(client.headers).not.toHaveProperty(header)
      }
      await client.until(({ data }) => data.includes('visit 1'))
      await pool.send('ada', 'live')
      await client.until(({ data }) => data.includes('live'))

      const cookie = client.headers['set-cookie']?.map(line => line.split(';')[0]).join('; ')
      const again = await connect(origin, '/', { headers: { ...browser.headers, cookie } })
      await again.until(({ data }) => data.includes('visit 2'))
      expectQuiet()
    },
  )

  test('a browser that disconnects causes no error and no log line (fault 41)', async () => {
    const { pool, port, expectQuiet } = await serve()
    const closes = watchCloses(pool)
    const opened = new Promise(resolve => pool.once('open', resolve))
    const socket = await rawGet(port, '/')
    await opened
    void pool.broadcast('on its way')
    socket.resetAndDestroy()
    expect(await closes.next).toBe('client')
    await pool.broadcast('to nobody')
    expectQuiet()
  })

  test('a browser that disconnects before the handler returns causes no error either (fault 41)', async () => {
    const entered = deferred<Koa3.Context>()
    const proceed = deferred()
    const over = deferred()
    const { pool, port, expectQuiet } = await serve({
      outer: (_, next) => next().finally(over.resolve),
      handler: async ctx => {
        entered.resolve(ctx as unknown as Koa3.Context)
        await proceed.promise
        expect(ctx.sse.send('to nobody')).toBe(false)
      },
    })
    const socket = await rawGet(port, '/')
    const { req } = await entered.promise
    const closed = closeOf(req.socket)
    socket.resetAndDestroy()
    await closed
    proceed.resolve()
    await over.promise
    // Koa answers only after the outermost middleware has returned.
    await new Promise(resolve => setImmediate(resolve))
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { client: 1 } })
    expectQuiet()
  })

  test('a slow handler streams from its first send on (fault 41)', async () => {
    const confirmed = deferred()
    const { origin, expectQuiet } = await serve({
      handler: async ctx => {
        ctx.sse.send('first')
        await confirmed.promise
        ctx.sse.send('second')
        ctx.sse.end()
      },
    })
    const client = await connect(origin, '/', browser)
    await client.until(({ data }) => data.includes('first'))
    expect(client.headers).not.toHaveProperty('content-encoding')
    confirmed.resolve()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['first', 'second', ''])
    expectQuiet()
  })

  test('a session that is committed too late is reported and the stream continues (fault 41)', async () => {
    const confirmed = deferred()
    const { pool, origin, failed, onError } = await serve({
      handler: async ctx => {
        ctx.sse.send('first')
        await confirmed.promise
        const { session } = ctx as unknown as { session: { late?: boolean } }
        session.late = true
      },
    })
    const client = await connect(origin, '/', browser)
    await client.until(({ data }) => data.includes('first'))
    confirmed.resolve()
    await failed
    expect(onError).toHaveBeenCalledTimes(1)
    await pool.send('ada', 'still here')
    await client.until(({ data }) => data.includes('still here'))
  })

  test('any error of outer middleware after the opening is reported and cuts nothing (fault 41)', async () => {
    const confirmed = deferred()
    const { pool, origin, failed, onError } = await serve({
      outer: async (_, next) => {
        await next()
        throw new Error('too late')
      },
      handler: async ctx => {
        ctx.sse.send('first')
        await confirmed.promise
      },
    })
    const client = await connect(origin, '/', browser)
    await client.until(({ data }) => data.includes('first'))
    confirmed.resolve()
    await failed
    expect(onError.mock.calls.map(([error]) => error.message)).toEqual(['too late'])
    await pool.send('ada', 'still here')
    await client.until(({ data }) => data.includes('still here'))
  })

  test('an error of outer middleware before the opening is an ordinary 500 (fault 41)', async () => {
    const { pool, origin, onError } = await serve({
      outer: async (_, next) => {
        await next()
        throw new Error('in time')
      },
    })
    const client = await connect(origin, '/', browser)
    expect(client.status).toBe(500)
    await client.ended
    expect(client.text).toBe('Internal Server Error')
    expect(onError).toHaveBeenCalledTimes(1)
    expect(pool.stats()).toMatchObject({ streams: 0, closed: { error: 1 } })
  })
})
