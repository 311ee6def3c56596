/** Defects 1 to 11 of koa-sse-stream 0.2.0. Those of its frames (6, 7, 8, 12) are in frames.test.ts. */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import Router from '@koa/router'
import Koa3 from 'koa'
import koasse, { type CompatStream } from 'koa-sse-pool/compat'
import { describe, expect, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect } from '../helpers/server.js'
import { answer, type Handler, koas, leave, serve } from './serve.js'

const HELLO = ': ok\n\n'
const CLOSE = 'event: close\ndata: \n\n'

/** A handler that sets only these properties. */
const set =
  (answer: { status?: number; body?: unknown }): Handler =>
  ctx => {
    Object.assign(ctx, answer)
  }

/** An app with one route, which serves one client at a time. */
async function serveOne(Koa: (typeof koas)[number][1], handler: Handler) {
  const router = new Router().get('/', koasse({ maxClients: 1 }), handler)
  return serve(Koa, router.routes())
}

describe.each(koas)('on %s', (_, Koa) => {
  test('events reach the client while the handler still runs (defect 1)', async () => {
    const release = deferred()
    const { origin } = await serveOne(Koa, async ctx => {
      ctx.sse.send('early')
      await release.promise
      ctx.sse.sendEnd('late')
    })
    const client = await connect(origin)
    await client.until(({ data }) => data.includes('early'))
    release.resolve()
    await client.ended
    expect(client.text).toBe(`${HELLO}data: early\n\ndata: late\n\n`)
  })

  test('a client that leaves while the handler runs gives its place back (defect 1)', async () => {
    let stream: CompatStream | undefined
    const { origin, errors } = await serveOne(Koa, async ctx => {
      stream = ctx.sse
      ctx.sse.send('early')
      await new Promise(() => {})
    })
    await leave(await connect(origin), stream as never)
    const next = await connect(origin)
    await next.until(({ data }) => data.includes('early'))
    expect(errors).toEqual([])
  })

  test('downstream middleware that throws gives the place back (defect 2)', async () => {
    const { origin, errors } = await serveOne(Koa, async ctx => {
      ctx.sse.send('lost')
      throw new Error('handler failed')
    })
    for (let i = 0; i < 3; i++) expect((await answer(origin)).status).toBe(500)
    expect(errors.map(({ message }) => message)).toEqual(Array(3).fill('handler failed'))
  })

  test.each([
    ['a Readable', () => Readable.from(['a', 'b'])],
    // Koa 2 does not support web bodies and would answer `{}`.
    ['a Blob', () => (Koa === Koa3 ? new Blob(['ab']) : Readable.from(['ab']))],
  ])('%s as body is an ordinary body and gives the place back (defect 2)', async (_, body) => {
    const closed = vi.fn()
    const { origin, errors } = await serveOne(Koa, ctx => {
      ctx.sse.once('close', closed)
      ctx.body = body()
    })
    for (let i = 1; i <= 3; i++) {
      const { status, text, headers } = await answer(origin)
      expect({ status, text }).toEqual({ status: 200, text: 'ab' })
      expect(headers['content-type']).toBe('application/octet-stream')
      expect(closed).toHaveBeenCalledTimes(i)
    }
    expect(errors).toEqual([])
  })

  test('a mount that is global and on a route makes one stream and no flood (defect 3)', async () => {
    const streams = new Set<CompatStream>()
    const watch: Handler = async (ctx, next) => {
      await next()
      // Reading it after next() must not open the global stream.
      streams.add(ctx.sse)
    }
    const router = new Router().get('/', koasse({ closeEvent: 'of-route' }), (ctx => {
      streams.add(ctx.sse)
      ctx.body = 'one'
      setImmediate(() => ctx.sse.sendEnd())
    }) as Handler)
    const { origin } = await serve(Koa, koasse({ closeEvent: 'global' }), watch, router.routes())
    expect((await answer(origin)).text).toBe(`${HELLO}data: one\n\nevent: of-route\ndata: \n\n`)
    expect(streams.size).toBe(1)
  })

  test('a route does not reopen a global stream that is already in use (defect 3)', async () => {
    const streams = new Set<CompatStream>()
    const use: Handler = (ctx, next) => {
      streams.add(ctx.sse)
      return next()
    }
    const router = new Router().get('/', koasse(), (ctx => {
      streams.add(ctx.sse)
      ctx.sse.sendEnd('one')
    }) as Handler)
    const { origin } = await serve(Koa, koasse(), use, router.routes())
    expect((await answer(origin)).text).toBe(`${HELLO}data: one\n\n`)
    expect(streams.size).toBe(1)
  })

  test('a full route has no ctx.sse, even if a global mount has room (defect 3)', async () => {
    const seen: unknown[] = []
    const router = new Router().get('/', koasse({ maxClients: 1 }), (ctx => {
      seen.push(ctx.sse)
    }) as Handler)
    const { origin } = await serve(Koa, koasse(), router.routes())
    await connect(origin)
    expect((await answer(origin)).status).toBe(404)
    expect(seen[1]).toBeUndefined()
  })

  describe('a global mount', () => {
    async function serveSite() {
      const router = new Router()
        .get('/events', (ctx => ctx.sse.sendEnd('hi')) as Handler)
        .get('/page', set({ body: 'page' }))
        .get('/json', set({ body: { a: 1 } }))
        .get('/private', (ctx => ctx.throw(401)) as Handler)
        .get('/quiet', set({ status: 401 }))
        .get('/moved', (ctx => ctx.redirect('/page')) as Handler)
        .get('/looks', (ctx => {
          ctx.status = 403
          ctx.body = ctx.sse ? 'looked' : ''
        }) as Handler)
        .post('/only-post', set({ body: '' }))
      const site = await serve(
        Koa,
        koasse({ maxClients: 1 }),
        router.routes(),
        router.allowedMethods(),
      )
      return site.origin
    }

    test.each([
      ['/nowhere', 404, 'Not Found', 'text/plain; charset=utf-8'],
      ['/page', 200, 'page', 'text/plain; charset=utf-8'],
      ['/json', 200, '{"a":1}', 'application/json; charset=utf-8'],
      ['/private', 401, 'Unauthorized', 'text/plain; charset=utf-8'],
      ['/quiet', 401, 'Unauthorized', 'text/plain; charset=utf-8'],
      ['/looks', 403, 'looked', 'text/plain; charset=utf-8'],
      ['/only-post', 405, 'Method Not Allowed', 'text/plain; charset=utf-8'],
      ['/events', 200, `${HELLO}data: hi\n\n`, 'text/event-stream'],
    ])('answers %s with %i (defect 4)', async (path, status, text, type) => {
      const origin = await serveSite()
      for (let i = 0; i < 2; i++) {
        const got = await answer(origin, path)
        expect(got).toMatchObject({ status, text })
        expect(got.headers['content-type']).toBe(type)
        expect(got.headers['x-accel-buffering']).toBe(type.endsWith('stream') ? 'no' : undefined)
      }
    })

    test('answers a redirect as one (defect 4)', async () => {
      const { status, headers } = await answer(await serveSite(), '/moved')
      expect(status).toBe(302)
      expect(headers.location).toMatch(/\/page$/)
      expect(headers['content-type']).not.toBe('text/event-stream')
    })

    test('through router.use is no route either (defect 4)', async () => {
      const router = new Router()
      router.use(koasse())
      router.get('/page', set({ body: 'page' }))
      router.get('/events', (ctx => ctx.sse.sendEnd('hi')) as Handler)
      const { origin } = await serve(Koa, router.routes())
      expect((await answer(origin, '/page')).text).toBe('page')
      expect((await answer(origin, '/events')).text).toBe(`${HELLO}data: hi\n\n`)
    })
  })

  test.each([
    ['a 401', 401, (ctx => ctx.throw(401)) as Handler],
    ['a status alone', 402, set({ status: 402 })],
    ['a redirect', 302, (ctx => ctx.redirect('/')) as Handler],
  ])('a route, too, leaves %s as it is (defect 4)', async (_, status, handler) => {
    const { origin } = await serveOne(Koa, handler)
    for (let i = 0; i < 2; i++) expect((await answer(origin)).status).toBe(status)
  })

  test.each(['end', 'sendEnd'])('%s() ends the stream (defect 5)', async method => {
    const { origin } = await serveOne(Koa, ctx => ctx.sse[method]())
    for (let i = 0; i < 2; i++) expect((await answer(origin)).text).toBe(HELLO + CLOSE)
  })

  test('end(data) sends only that, then ends (defect 5)', async () => {
    const { origin } = await serveOne(Koa, ctx => ctx.sse.end({ event: 'over', data: 'bye' }))
    expect((await answer(origin)).text).toBe(`${HELLO}event: over\ndata: bye\n\n`)
  })

  test('the timer keeps no process alive, and pings log nothing (defect 9)', async () => {
    const timers = vi.spyOn(globalThis, 'setInterval')
    const log = vi.spyOn(console, 'log')
    const { origin } = await serve(Koa, koasse({ pingInterval: 5 }), (ctx => ctx.sse) as Handler)
    const client = await connect(origin)
    await client.until(({ comments }) => comments.length > 2)
    expect(timers.mock.results.map(({ value }) => value.hasRef())).toEqual([false])
    expect(log).not.toHaveBeenCalled()
    timers.mockRestore()
    log.mockRestore()
  })

  test('a client that leaves is no error (defect 10)', async () => {
    let stream: CompatStream | undefined
    const { origin, errors } = await serveOne(Koa, ctx => {
      stream = ctx.sse
    })
    for (let i = 0; i < 2; i++) await leave(await connect(origin), stream as never)
    expect(errors).toEqual([])
  })

  test('server.close() ends the streams at the next ping (defect 10)', async () => {
    const closed = deferred()
    const handler: Handler = ctx => void ctx.sse.once('close', closed.resolve)
    const { origin, server, errors } = await serve(Koa, koasse({ pingInterval: 5 }), handler)
    const client = await connect(origin)
    server.close()
    await once(server, 'close')
    expect(await client.ended).toBe(true)
    await closed.promise
    expect(errors).toEqual([])
  })

  describe('a slow reader', () => {
    const LARGE = 'x'.repeat(60 * 1024)

    async function slow() {
      let stream!: CompatStream
      let socket!: Socket
      const { origin, errors } = await serveOne(Koa, ctx => {
        stream = ctx.sse
        socket = ctx.req.socket
      })
      const client = await connect(origin)
      client.response.pause()
      return { stream, socket, client, errors }
    }

    test('makes write() return false, and drain is emitted when it has read (defect 11)', async () => {
      const { stream, client } = await slow()
      let sent = 0
      do sent += 1
      while (stream.write(LARGE))
      const last = vi.fn()
      stream.write('last', last)
      expect(last).not.toHaveBeenCalled()
      const drained = once(stream, 'drain')
      client.response.resume()
      await drained
      expect(stream.write('more')).toBe(true)
      await client.until(({ data }) => data.includes('more'))
      expect(last).toHaveBeenCalledWith(null)
      expect(client.data.length).toBe(sent + 2)
    })

    test('holds a pipe back and loses nothing (defect 11)', async () => {
      const { stream, client } = await slow()
      let made = 0
      const source = new Readable({
        read() {
          made += 1
          this.push(made <= 400 ? Buffer.from(LARGE) : null)
        },
      })
      const paused = new Promise(resolve => source.once('pause', resolve))
      source.pipe(new PassThrough()).pipe(stream)
      await paused
      expect(made).toBeLessThan(400)
      client.response.resume()
      expect(await client.ended).toBe(true)
      expect(client.data.join('').length).toBe(400 * LARGE.length)
      expect(client.events.at(-1)?.event).toBe('close')
    })

    test('with more waiting than the limit is closed, and the callbacks say so (defect 11)', async () => {
      const { stream, errors } = await slow()
      const failed: unknown[] = []
      const closed = once(stream, 'close')
      for (let i = 0; i < 400 && !stream.ended; i++) {
        stream.send(LARGE, undefined, error => error && failed.push(error))
      }
      expect(stream.ended).toBe(true)
      await closed
      await new Promise(setImmediate)
      expect(failed.length).toBeGreaterThan(1)
      expect(errors).toEqual([])
    })

    test('that leaves before the end settles the callback of sendEnd() (defect 11)', async () => {
      const { stream, socket } = await slow()
      while (stream.write(LARGE));
      const ended = new Promise(resolve => stream.sendEnd('bye', undefined, resolve))
      // Closed at once: later, the kernel would have taken the rest before the server notices.
      socket.destroy()
      expect(await ended).toBeInstanceOf(Error)
    })
  })
})
