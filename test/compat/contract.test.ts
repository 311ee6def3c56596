import { once } from 'node:events'
import http2 from 'node:http2'
import { PassThrough, Readable, Writable } from 'node:stream'
import Router from '@koa/router'
import Koa3 from 'koa'
import koasse, { type CompatStream, sse } from 'koa-sse-pool/compat'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Hub } from '../../src/pool/hub.js'
import { connect, listen } from '../helpers/server.js'
import { answer, type Handler, keepAlive, koas, leave, serve } from './serve.js'

const HELLO = ': ok\n\n'
const CLOSE = 'event: close\ndata: \n\n'

test('the factory is both the default and a named export', () => {
  expect(sse).toBe(koasse)
})

test.each([
  [{ maxClients: 0 }, /maxClients/],
  [{ pingInterval: '3000' }, /pingInterval.*write the number 3000/],
  [{ closeEvent: 'a\ndata: b' }, /event must be/],
])('the wrong option %o is found when the app starts', (options, message) => {
  expect(() => koasse(options as object)).toThrow(message)
})

describe.each(koas)('on %s', (_, Koa) => {
  describe('the option', () => {
    test('maxClients, once reached, lets next() run without ctx.sse, for each factory call on its own', async () => {
      const seen: unknown[] = []
      const open: CompatStream[] = []
      const handler: Handler = ctx => {
        if (ctx.sse) open.push(ctx.sse)
        else ctx.body = 'full'
        seen.push(ctx.response.sse)
      }
      const router = new Router()
        .get('/a', koasse({ maxClients: 1 }), handler)
        .get('/b', koasse({ maxClients: 1 }), handler)
      const { origin } = await serve(Koa, router.routes())
      const first = await connect(origin, '/a')
      expect(await answer(origin, '/a')).toMatchObject({ status: 200, text: 'full' })
      await connect(origin, '/b')
      expect(seen).toEqual([open[0], undefined, open[1]])

      await leave(first, open[0] as CompatStream)
      expect((await connect(origin, '/a')).headers['content-type']).toBe('text/event-stream')
    })

    test('pingInterval is the time between frames of ": "', async () => {
      const { origin } = await serve(Koa, koasse({ pingInterval: 5 }), (ctx => ctx.sse) as Handler)
      const client = await connect(origin)
      await client.until(({ text }) => text.startsWith(`${HELLO}: \n\n: \n\n`))
    })

    test('closeEvent names the event of sendEnd() without data', async () => {
      const handler: Handler = ctx => ctx.sse.sendEnd()
      const { origin } = await serve(Koa, koasse({ closeEvent: 'over' }), handler)
      expect((await answer(origin)).text).toBe(`${HELLO}event: over\ndata: \n\n`)
    })

    test('matchQuery gives a stream only to requests with that key, whatever its value', async () => {
      const handler: Handler = ctx => {
        if (ctx.sse) ctx.sse.sendEnd()
        else ctx.body = 'none'
      }
      const router = new Router().get('/', koasse({ matchQuery: 'sse' }), handler)
      const { origin } = await serve(Koa, router.routes())
      expect((await answer(origin, '/?sse')).text).toBe(HELLO + CLOSE)
      expect((await answer(origin, '/?sse=0')).text).toBe(HELLO + CLOSE)
      expect((await answer(origin, '/?other=1')).text).toBe('none')
    })
  })

  describe('the middleware', () => {
    test('passes the request on if headers are already sent', async () => {
      const seen = vi.fn()
      const { origin } = await serve(
        Koa,
        ((ctx, next) => {
          ctx.res.write('mine')
          return next().then(() => ctx.res.end())
        }) as Handler,
        koasse(),
        (ctx => seen(ctx.sse)) as Handler,
      )
      expect((await answer(origin)).text).toBe('mine')
      expect(seen).toHaveBeenCalledWith(undefined)
    })

    test('needs no handler of its own on a route', async () => {
      const { origin } = await serve(Koa, new Router().get('/', koasse()).routes())
      const client = await connect(origin)
      await client.until(({ text }) => text === HELLO)
    })

    test('gives the same writable stream as ctx.sse and ctx.response.sse', async () => {
      const streams: unknown[] = []
      const handler: Handler = ctx => {
        streams.push(ctx.response.sse, ctx.sse, ctx.sse)
        ctx.sse.sendEnd()
      }
      const { origin } = await serve(Koa, koasse(), handler)
      await answer(origin)
      expect(new Set(streams).size).toBe(1)
      expect(streams[0]).toBeInstanceOf(Writable)
    })

    test('lets the app replace ctx.sse', async () => {
      const handler: Handler = ctx => {
        ctx.sse = 'mine'
        ctx.body = ctx.sse
      }
      const { origin } = await serve(Koa, koasse(), handler)
      expect((await answer(origin)).text).toBe('mine')
    })

    test('sets up the socket and the headers for a stream', async () => {
      const calls: unknown[] = []
      const watch: Handler = (ctx, next) => {
        for (const name of ['setTimeout', 'setNoDelay', 'setKeepAlive'] as const) {
          const method = ctx.req.socket[name]
          ctx.req.socket[name] = function (this: unknown, ...args: unknown[]) {
            calls.push([name, args[0]])
            return Reflect.apply(method, this, args)
          }
        }
        return next()
      }
      const { origin } = await serve(Koa, watch, koasse(), (ctx => ctx.sse) as Handler)
      const { headers, status } = await connect(origin, '/', keepAlive)
      expect(status).toBe(200)
      expect(headers).toMatchObject({
        'content-type': 'text/event-stream',
        'cache-control': 'no-cache, no-transform',
        connection: 'keep-alive',
        'x-accel-buffering': 'no',
      })
      expect(calls).toEqual(
        expect.arrayContaining([
          ['setTimeout', 0],
          ['setNoDelay', true],
          ['setKeepAlive', true],
        ]),
      )
    })

    test('works on HTTP/2, without the Connection header', async () => {
      const app = new Koa()
      app.use(koasse() as never)
      app.use((ctx: Parameters<Handler>[0]) => {
        ctx.sse.send('hi')
        ctx.sse.sendEnd()
      })
      const { origin } = await listen(http2.createServer(app.callback()))
      const session = http2.connect(origin)
      const request = session.request({ ':path': '/' }).setEncoding('utf8')
      const [headers] = await once(request, 'response')
      let text = ''
      for await (const chunk of request) text += chunk
      session.destroy()
      expect(headers).toMatchObject({ ':status': 200, 'content-type': 'text/event-stream' })
      expect(headers.connection).toBeUndefined()
      expect(text).toBe(`${HELLO}data: hi\n\n${CLOSE}`)
    })

    test('answers HEAD with headers only and gives the place back', async () => {
      const closed = vi.fn()
      const router = new Router().get('/', koasse({ maxClients: 1 }), (ctx => {
        ctx.sse.once('close', closed)
        ctx.sse.send('x')
      }) as Handler)
      const { origin } = await serve(Koa, router.routes())
      const head = await answer(origin, '/', { method: 'HEAD' })
      expect(head).toMatchObject({ status: 200, text: '' })
      expect(head.headers['content-type']).toBe('text/event-stream')
      expect(closed).toHaveBeenCalledOnce()
      const client = await connect(origin)
      await client.until(({ data }) => data.includes('x'))
    })

    test('keeps a stored ctx.sse usable after the handler has returned', async () => {
      const stored = new Map<string, CompatStream>()
      const handler: Handler = ctx => void stored.set('a', ctx.sse)
      const { origin } = await serve(Koa, koasse(), handler)
      const client = await connect(origin)
      expect(stored.get('a')?.send({ event: 'update', data: 'later' })).toBe(true)
      expect(await client.event('update')).toMatchObject({ data: 'later' })
    })
  })

  describe('as ctx.body after next(),', () => {
    /** What the client got from the body: everything before an event that is sent last. */
    async function wireOf(body: unknown, onRoute = true) {
      const handler: Handler = (ctx, next) => {
        if (!onRoute) ctx.sse
        ctx.body = body
        return next()
      }
      let stream: CompatStream | undefined
      const keep: Handler = ctx => {
        stream = ctx.sse
      }
      const router = new Router().get('/', koasse(), handler, keep)
      const { origin } = await (onRoute
        ? serve(Koa, router.routes())
        : serve(Koa, koasse(), handler, keep))
      const client = await connect(origin, '/', keepAlive)
      // The stream is still open.
      stream?.send({ event: 'last' })
      await client.event('last')
      expect(client.headers['content-type']).toBe('text/event-stream')
      expect(client.headers['content-length']).toBeUndefined()
      expect(client.headers['transfer-encoding']).toBe('chunked')
      return client.text.slice(HELLO.length, -'event: last\ndata: \n\n'.length)
    }

    test.each([
      ['an empty string is the stream alone', '', ''],
      ['a string is one event', 'hello', 'data: hello\n\n'],
      ['a message-shaped object is that event', { event: 'e', data: 1 }, 'event: e\ndata: 1\n\n'],
      ['any other object is JSON data', { count: 1 }, 'data: {"count":1}\n\n'],
      ['an array is JSON data', [1], 'data: [1]\n\n'],
      ['a Buffer is text', Buffer.from('ž'), 'data: ž\n\n'],
    ])('%s', async (_, body, wire) => {
      expect(await wireOf(body)).toBe(wire)
      expect(await wireOf(body, false)).toBe(wire)
    })

    test('null is Koa’s 204, as in 0.2.0', async () => {
      const router = new Router().get('/', koasse(), (ctx => {
        ctx.body = null
      }) as Handler)
      const { origin } = await serve(Koa, router.routes())
      expect((await answer(origin)).status).toBe(204)
    })

    test('ctx.sse itself is the stream', async () => {
      const handler: Handler = ctx => {
        ctx.body = ctx.sse
        setImmediate(() => ctx.sse.sendEnd('x'))
      }
      const { origin } = await serve(Koa, koasse(), handler)
      const { headers, text } = await answer(origin)
      expect(headers['content-type']).toBe('text/event-stream')
      expect(text).toBe(`${HELLO}data: x\n\n`)
    })

    test('a string after sendEnd() is not sent', async () => {
      const handler: Handler = ctx => {
        ctx.sse.sendEnd('bye')
        ctx.body = 'too late'
      }
      const { origin } = await serve(Koa, koasse(), handler)
      expect((await answer(origin)).text).toBe(`${HELLO}data: bye\n\n`)
    })

    test('a Duplex is piped, decoded, and ends the stream', async () => {
      const router = new Router().get('/', koasse(), (ctx => {
        const duplex = new PassThrough()
        ctx.body = duplex
        duplex.write(Buffer.from('ž').subarray(0, 1))
        duplex.write(Buffer.from('ž').subarray(1))
        setImmediate(() => duplex.end('b'))
      }) as Handler)
      const { origin, errors } = await serve(Koa, router.routes())
      const { text, headers } = await answer(origin)
      expect(headers['content-type']).toBe('text/event-stream')
      expect(text).toBe(`${HELLO}data: ž\n\ndata: b\n\n${CLOSE}`)
      expect(errors).toEqual([])
    })

    test('a Duplex in object mode is piped too and destroyed when the client leaves', async () => {
      const duplex = new PassThrough({ objectMode: true })
      let stream!: CompatStream
      const handler: Handler = ctx => {
        stream = ctx.sse
        ctx.body = duplex
      }
      const { origin, errors } = await serve(Koa, koasse(), handler)
      const client = await connect(origin)
      duplex.write({ event: 'e', data: { a: 1 } })
      expect(await client.event('e')).toMatchObject({ data: '{"a":1}' })
      const destroyed = once(duplex, 'close')
      await leave(client, stream)
      await destroyed
      expect(errors).toEqual([])
    })

    test('a Duplex that fails cuts the stream and is reported once', async () => {
      const duplex = new PassThrough()
      const handler: Handler = ctx => {
        ctx.sse.send('before')
        ctx.body = duplex
      }
      const { origin, errors } = await serve(Koa, koasse(), handler)
      const client = await connect(origin, '/', keepAlive)
      await client.until(({ data }) => data.includes('before'))
      duplex.destroy(new Error('source failed'))
      expect(await client.ended).toBe(false)
      expect(errors.map(({ message }) => message)).toEqual(['source failed'])
    })

    test('a Duplex that fails before the stream opens is an ordinary error', async () => {
      const duplex = new PassThrough()
      const outer: Handler = async (_, next) => {
        await next()
        duplex.destroy(new Error('source failed'))
        await new Promise(resolve => duplex.once('close', resolve))
      }
      const handler: Handler = ctx => {
        ctx.body = duplex
      }
      const router = new Router().get('/', koasse({ maxClients: 1 }), handler)
      const { origin, errors } = await serve(Koa, outer, router.routes())
      const { status, headers } = await answer(origin)
      expect(status).toBe(500)
      expect(headers['content-type']).toBe('text/plain; charset=utf-8')
      expect(errors.map(({ message }) => message)).toEqual(['source failed'])
    })

    test('a body that outer middleware sets later still wins', async () => {
      const outer: Handler = async (ctx, next) => {
        await next()
        expect(ctx.body).toBeUndefined()
        ctx.body = { outer: true }
      }
      const router = new Router().get('/', koasse({ maxClients: 1 }), (ctx => {
        ctx.body = 'inner'
      }) as Handler)
      const { origin } = await serve(Koa, outer, router.routes())
      for (let i = 0; i < 2; i++) {
        const { text, headers } = await answer(origin)
        expect(text).toBe('{"outer":true}')
        expect(headers['content-type']).toBe('application/json; charset=utf-8')
      }
    })

    test('data that cannot be sent is an ordinary error', async () => {
      const handler: Handler = ctx => {
        ctx.sse.on('message', () => {})
        ctx.body = { event: 'a\nb' }
      }
      const { origin, errors } = await serve(Koa, koasse({ maxClients: 1 }), handler)
      expect((await answer(origin)).status).toBe(500)
      expect((await answer(origin)).status).toBe(500)
      expect(errors[0]).toBeInstanceOf(TypeError)
    })
  })

  describe('ctx.sse', () => {
    async function streamAndClient() {
      let stream!: CompatStream
      const handler: Handler = ctx => {
        stream = ctx.sse
      }
      const { origin, errors } = await serve(Koa, koasse(), handler)
      const client = await connect(origin, '/', keepAlive)
      return { stream, client, errors }
    }

    test('takes strings and objects through write() and pipe()', async () => {
      const { stream, client } = await streamAndClient()
      stream.write('one')
      stream.write({ event: 'e', data: 'two', id: 1, retry: 2 })
      Readable.from(['three', { data: { four: 4 } }]).pipe(stream)
      expect(await client.ended).toBe(true)
      expect(client.text).toBe(
        `${HELLO}data: one\n\nevent: e\nretry: 2\nid: 1\ndata: two\n\ndata: three\n\ndata: {"four":4}\n\n${CLOSE}`,
      )
    })

    test('calls back, whichever argument the callback is', async () => {
      const { stream, client } = await streamAndClient()
      await new Promise<unknown>(done => stream.send('a', 'utf8', done))
      await new Promise<unknown>(done => stream.send('b', done))
      await new Promise<unknown>(done => stream.write('c', done))
      await new Promise<unknown>(done => stream.write('d', 'utf8', done))
      await new Promise<unknown>(done => stream.sendEnd('e', undefined, done))
      expect(await client.ended).toBe(true)
      expect(client.data).toEqual(['a', 'b', 'c', 'd', 'e'])
    })

    test('accepts a callback as the only argument of end()', async () => {
      const { stream, client } = await streamAndClient()
      await new Promise<unknown>(done => stream.end(done))
      await client.ended
      expect(client.text).toBe(HELLO + CLOSE)
    })

    test('returns false from send() without an argument and once ended, and never throws then', async () => {
      const { stream, client } = await streamAndClient()
      expect(stream.send()).toBe(false)
      expect(stream.send('a')).toBe(true)
      expect(stream.ended).toBe(false)
      expect(stream.sendEnd('b')).toBe(true)
      expect(stream.ended).toBe(true)
      const error = await new Promise(done => {
        expect(stream.send({ event: 'a\nb' }, 'utf8', done)).toBe(false)
      })
      expect(error).toMatchObject({ code: 'ERR_SSE_CLOSED' })
      expect(stream.sendEnd('c')).toBe(false)
      expect(stream.write('c')).toBe(false)
      stream.end('c')
      await client.ended
      expect(stream.send('c')).toBe(false)
      expect(client.data).toEqual(['a', 'b'])
    })

    test.each(['server', 'client'])('emits close once when the %s closes', async side => {
      const { stream, client, errors } = await streamAndClient()
      const closed = vi.fn()
      stream.on('close', closed)
      if (side === 'server') {
        stream.sendEnd()
        stream.end()
        await client.ended
      } else client.close()
      if (!stream.closed) await once(stream, 'close')
      stream.destroy()
      await new Promise(setImmediate)
      expect(closed).toHaveBeenCalledOnce()
      expect(stream.ended).toBe(true)
      expect(errors).toEqual([])
    })

    test('emits message with each frame, including the last one', async () => {
      const { stream, client } = await streamAndClient()
      const frames: string[] = []
      stream.on('message', frame => frames.push(frame))
      stream.send('a')
      stream.write({ event: 'b' })
      stream.sendEnd()
      await client.ended
      expect(frames).toEqual(['data: a\n\n', 'event: b\ndata: \n\n', CLOSE])
    })

    test('reports a wrong item in a pipe as an error of the app and cuts the stream', async () => {
      const { stream, client, errors } = await streamAndClient()
      const error = new Promise(done => stream.once('error', done))
      Readable.from(['fine', { event: 'a\nb' }]).pipe(stream)
      expect(await error).toBeInstanceOf(TypeError)
      expect(await client.ended).toBe(false)
      expect(client.data).toEqual(['fine'])
      expect(errors).toEqual([await error])
    })

    test('breaks off with destroy(), so that the client comes back', async () => {
      const { stream, client, errors } = await streamAndClient()
      stream.destroy()
      expect(await client.ended).toBe(false)
      expect(errors).toEqual([])
    })
  })
})

test('a pool that drains counts the clients that it refuses as draining, not as full', async () => {
  const refusal = vi.spyOn(Hub.prototype, 'refusal').mockReturnValue('draining')
  const counted = vi.spyOn(Hub.prototype, 'countRefusal')
  onTestFinished(() => {
    refusal.mockRestore()
    counted.mockRestore()
  })
  const { origin } = await serve(Koa3, koasse(), (ctx: Koa3.Context) => {
    ctx.body = String(ctx.sse)
  })
  expect((await answer(origin)).text).toBe('undefined')
  expect(counted.mock.calls).toEqual([['draining']])
})
