/** Handlers that answer with something else than their stream. */
import http from 'node:http'
import { Readable } from 'node:stream'
import Koa from 'koa'
import { ClientPool, type EventStream, sse } from 'koa-sse-pool'
import Koa2 from 'koa2'
import request from 'supertest'
import { describe, expect, onTestFinished, test } from 'vitest'
import { closeOf, deferred, type Handler, rawGet, reading, serveApp } from '../helpers/app.js'
import { connect, listen, serveStreams, testPool } from '../helpers/server.js'

describe.each([
  ['Koa 3', Koa],
  ['Koa 2', Koa2],
])('on %s', (_, AnyKoa) => {
  function appWith(handler: Koa.Middleware, around?: Koa.Middleware) {
    const pool = new ClientPool()
    onTestFinished(() => pool.close())
    const app = new AnyKoa()
    app.silent = true
    if (around) app.use(around)
    app.use(sse({ pool })).use(handler)
    return { pool, callback: app.callback() }
  }

  test('a handler that ends ctx.res itself has answered', async () => {
    const { pool, callback } = appWith(ctx => {
      ctx.res.end('mine')
    })
    await request(callback).get('/').expect(200, 'mine')
    expect(pool.size).toBe(0)
  })

  test.each<[string, (ctx: Koa.Context) => unknown]>([
    ['reads ctx.respond', ctx => ctx.respond],
    ['spreads ctx', ctx => ({ ...ctx })],
    ['copies ctx', ctx => Object.assign({}, ctx)],
  ])(
    'middleware that %s after next() opens nothing early, so late headers and cookies are kept (fault 87)',
    async (_, read) => {
      const pool = testPool()
      const app = new AnyKoa()
      app.use(async (ctx, next) => {
        await next()
        read(ctx)
        await new Promise(setImmediate)
        expect(ctx.headerSent).toBe(false)
        ctx.set('X-Late', 'kept')
        ctx.cookies.set('late', 'kept')
      })
      app.use(sse({ pool }))
      const { origin } = await listen(http.createServer(app.callback()))
      const client = await connect(origin)
      expect(client.headers).toMatchObject({
        'content-type': 'text/event-stream; charset=utf-8',
        'x-late': 'kept',
        'set-cookie': [expect.stringMatching(/^late=kept/)],
      })
      expect(client.headers).not.toHaveProperty('content-length')
      await pool.broadcast('hello')
      await client.until(({ data }) => data.includes('hello'))
    },
  )

  test.each<[string, () => unknown]>([
    ['a text', () => 'default'],
    ['a page', () => '<p>default'],
    ['a Buffer', () => Buffer.from('default')],
    ['JSON', () => ({ ok: true })],
    ['a stream', () => Readable.from(['default'])],
  ])(
    'a stream wins over %s that outer middleware has set as ctx.body before (fault 88)',
    async (_, body) => {
      const pool = testPool()
      const app = new AnyKoa()
      app.use((ctx, next) => {
        ctx.body = body()
        return next()
      })
      app.use(sse({ pool }))
      const { origin } = await listen(http.createServer(app.callback()))
      const client = await connect(origin)
      expect(client.headers['content-type']).toBe('text/event-stream; charset=utf-8')
      expect(client.headers).not.toHaveProperty('content-length')
      await pool.broadcast('hello')
      await client.until(({ data }) => data.includes('hello'))
      expect(client.text).not.toContain('default')
    },
  )

  test('a body that was set before is the answer if the handler fails and the error is swallowed (fault 88)', async () => {
    const { callback } = appWith(
      () => {
        throw new Error('no')
      },
      async (ctx, next) => {
        ctx.body = 'default'
        await next().catch(() => {})
      },
    )
    await request(callback).get('/').expect(200, 'default')
  })

  test('middleware that wraps res.end does not keep the stream from opening and ending', async () => {
    const pool = testPool({ lean: false })
    const app = new AnyKoa()
    const wrap: Koa.Middleware = (ctx, next) => {
      const { end } = ctx.res
      ctx.res.end = function (this: unknown, ...args: unknown[]) {
        return Reflect.apply(end, this, args)
      } as typeof end
      return next()
    }
    app.use(wrap).use(sse({ pool })).use(wrap)
    const { origin } = await listen(http.createServer(app.callback()))
    const client = await connect(origin)
    await pool.broadcast('hello')
    await client.until(({ data }) => data.includes('hello'))
    await pool.close()
    expect(await client.ended).toBe(true)
  })

  test('middleware that has read ctx.respond may still end ctx.res itself, a turn later', async () => {
    const { callback } = appWith(
      () => {},
      async (ctx, next) => {
        await next()
        expect(ctx.respond).toBe(true)
        await new Promise(setImmediate)
        ctx.res.end('mine')
      },
    )
    await request(callback).get('/').expect(200, 'mine')
  })

  test('a handler that has sent something and writes to ctx.res in the same turn gets nothing into its answer', async () => {
    const closed = deferred<unknown>()
    const { callback } = appWith(async ctx => {
      void ctx.sse.closed.then(closed.resolve)
      ctx.sse.send('event')
      ctx.res.write('mi')
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      ctx.res.end('ne')
    })
    await request(callback).get('/').expect(200, 'mine')
    expect(await closed.promise).toBe('end')
  })

  test('a handler that answers with a body closes its stream as ended', async () => {
    const closed = deferred<unknown>()
    const { callback } = appWith(ctx => {
      void ctx.sse.closed.then(closed.resolve)
      ctx.body = 'mine'
    })
    await request(callback).get('/').expect(200, 'mine')
    expect(await closed.promise).toBe('end')
  })

  test('outer middleware may answer for a handler that failed', async () => {
    const { callback } = appWith(
      () => {
        throw new Error('no')
      },
      async (ctx, next) => {
        try {
          await next()
        } catch {
          ctx.body = 'sorry'
        }
      },
    )
    await request(callback).get('/').expect(200, 'sorry')
  })

  test('middleware that swallows the error and answers nothing leaves the 404 that Koa would give', async () => {
    const { callback } = appWith(
      () => {
        throw new Error('no')
      },
      (_ctx, next) => next().catch(() => {}),
    )
    await request(callback).get('/').expect(404, 'Not Found')
  })

  test('a preflight gets a response and no stream', async () => {
    const { pool, callback } = appWith(() => {
      throw new Error('must not run')
    })
    await request(callback)
      .options('/')
      .expect(204)
      .expect('Allow', 'GET, HEAD, POST')
      .expect('Access-Control-Allow-Headers', 'Content-Type, Last-Event-ID')
    expect(pool.stats().opened).toBe(0)
  })
})

describe('ctx.sse.signal (fault 82)', () => {
  const quiet = () =>
    listen(http.createServer((_, res) => void res.writeHead(200).write('never ends')))

  async function serveUpstream(handler: (sse: EventStream, url: string) => unknown) {
    const upstream = await quiet()
    const pool = testPool()
    const settled = deferred<unknown>()
    const { origin, errors } = await serveApp(
      async (_ctx, next) => {
        await next().then(settled.resolve, error => {
          settled.resolve(error)
          throw error
        })
      },
      sse({ pool }),
      (ctx => handler(ctx.sse, upstream.origin)) as Handler,
    )
    return { origin, errors, pool, settled: settled.promise }
  }

  test('stops a fetch for a client that leaves an open stream, and nothing is reported', async () => {
    const { origin, errors, settled } = await serveUpstream(async (sse, url) => {
      sse.comment()
      const response = await fetch(url, { signal: sse.signal })
      sse.send('upstream')
      await response.text()
    })
    const client = await connect(origin)
    await client.until(({ data }) => data.includes('upstream'))
    client.close()
    expect(await settled).toMatchObject({
      name: 'AbortError',
      code: 'ERR_SSE_CLOSED',
      reason: 'client',
    })
    await new Promise(setImmediate)
    expect(errors).toEqual([])
  })

  test('stops a fetch for a client that leaves before anything was sent, and nothing is reported', async () => {
    const started = deferred()
    const { origin, errors, settled } = await serveUpstream(async (sse, url) => {
      const response = await fetch(url, { signal: sse.signal })
      started.resolve()
      await response.text()
    })
    const request = http.get(origin).on('error', () => {})
    await started.promise
    request.destroy()
    expect(await settled).toMatchObject({ name: 'AbortError', reason: 'client' })
    await new Promise(setImmediate)
    expect(errors).toEqual([])
  })

  test('does not hide an abort that has another cause', async () => {
    const { origin, errors, settled } = await serveUpstream(async (sse, url) => {
      sse.comment()
      await fetch(url, { signal: AbortSignal.abort() })
    })
    await connect(origin)
    await settled
    await new Promise(setImmediate)
    expect(errors).toHaveLength(1)
  })
})

test('an error of the connection is reported only if the handler has thrown it: its own source may have been cut', async () => {
  const reset = () => Object.assign(new Error('reset'), { code: 'ECONNRESET' })
  const thrown = reset()
  const { origin, errors } = await serveApp(sse({ pool: testPool() }), async ctx => {
    ctx.sse?.comment()
    await new Promise(setImmediate)
    ctx.onerror(reset())
    throw thrown
  })
  const client = await connect(origin)
  await client.ended
  await new Promise(setImmediate)
  expect(errors).toEqual([thrown])
})

test('a source that fails to close affects nothing else when the client leaves', async () => {
  const pool = testPool()
  const stopped = deferred()
  const source: AsyncIterable<string> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: async () => {
        stopped.resolve()
        throw new Error('cannot close')
      },
    }),
  }
  const { origin } = await serveStreams({ pool }, async ctx => {
    await (ctx.sse as EventStream).stream(source)
  })
  // The stream opens even though the source is quiet.
  const client = await connect(origin, '/?id=ada')
  client.close()
  await stopped.promise
})

test.each(['HTTP/1.1', 'HTTP/1.0'])(
  'garbage after a request by %s ends its stream, and is not reported as an error of the app',
  async version => {
    const pool = testPool()
    const { port, errors } = await serveApp(sse({ pool }))
    const socket = await rawGet(port, '/', version.slice('HTTP/'.length))
    await reading(socket).until(':ok')
    socket.write('\0garbage\r\n\r\n')
    await closeOf(socket)
    await expect.poll(() => pool.stats()).toMatchObject({ streams: 0, closed: { client: 1 } })
    expect(errors).toEqual([])
  },
)
