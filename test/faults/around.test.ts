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

/** A session store that takes a turn of the event loop for each call, as a database would. */
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
  /** Everything that people put around their routes, then `outer`, the stream and its handler. */
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
    // Where koa-etag announces its successor.
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
      /** That neither the app nor the console heard of an error. */
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
    'fault 41: headers and cookies of all around it arrive, frames at once, with the session %s',
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

  test('fault 41: a browser that leaves is no error and no line in the log', async () => {
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

  test('fault 41: a browser that leaves before the handler has returned is none either', async () => {
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

  test('fault 41: a handler that takes long streams from its first send on', async () => {
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

  test('fault 41: a session that is committed too late is reported, and the stream goes on', async () => {
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

  test('fault 41: any error of an outer middleware after the opening is reported, and cuts nothing', async () => {
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

  test('fault 41: an error of an outer middleware before the opening is an ordinary 500', async () => {
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
