/** Patterns of public apps that worked with koa-sse-stream 0.2.0. */
import { setImmediate as turn } from 'node:timers/promises'
import koasse, { type CompatStream } from 'koa-sse-pool/compat'
import { describe, expect, test, vi } from 'vitest'
import { ClientPool } from '../../src/index.js'
import { deferred } from '../helpers/app.js'
import { connect } from '../helpers/server.js'
import { answer, type Handler, koas, serve } from './serve.js'

const HELLO = ': ok\n\n'
/** What an EventSource sends. */
const eventSource = { headers: { Accept: 'text/event-stream', Connection: 'keep-alive' } }

describe.each(koas)('on %s', (_, Koa) => {
  /** A handler that returns at once and uses `ctx.sse` only later. */
  function later() {
    const tick = deferred()
    const streams: CompatStream[] = []
    const handler: Handler = ctx => {
      void tick.promise.then(() => {
        streams.push(ctx.sse)
        ctx.sse.send('later')
      })
    }
    return { tick, streams, handler }
  }

  test('a global mount whose handler uses ctx.sse only in a timer has a stream (fault 99)', async () => {
    const { tick, handler } = later()
    const { origin, errors } = await serve(Koa, koasse(), handler)
    const client = await connect(origin, '/', eventSource)
    await client.until(({ text }) => text === HELLO)
    tick.resolve()
    await client.until(({ data }) => data.includes('later'))
    expect(errors).toEqual([])
  })

  test('a first use of ctx.sse after a 404 finds a closed stream (fault 99)', async () => {
    const { tick, streams, handler } = later()
    const { origin, errors } = await serve(Koa, koasse(), handler)
    expect((await answer(origin)).status).toBe(404)
    tick.resolve()
    await tick.promise
    const [stream] = streams as [CompatStream]
    const closed = vi.fn()
    stream.once('close', closed)
    await turn()
    expect(stream.ended).toBe(true)
    expect(closed).toHaveBeenCalledOnce()
    expect(stream.send('x')).toBe(false)
    expect(stream.write('x')).toBe(false)
    expect(stream.sendEnd()).toBe(false)
    expect(errors).toEqual([])
  })

  test('two global mounts open one stream (fault 99)', async () => {
    const { tick, handler } = later()
    const { origin, errors } = await serve(Koa, koasse(), koasse(), handler)
    const client = await connect(origin, '/', eventSource)
    tick.resolve()
    await client.until(({ data }) => data.includes('later'))
    expect(client.text).toBe(`${HELLO}data: later\n\n`)
    expect(errors).toEqual([])
  })

  test('a full mount refuses an EventSource, even inside another one with room (fault 99)', async () => {
    const { origin } = await serve(Koa, koasse(), koasse({ maxClients: 1 }), (() => {}) as Handler)
    await connect(origin, '/', eventSource)
    expect((await answer(origin, '/', eventSource)).status).toBe(404)
  })

  test.each<[string, number, Handler]>([
    ['a page', 200, ctx => Object.assign(ctx, { body: 'page' })],
    ['a status', 401, ctx => Object.assign(ctx, { status: 401 })],
    ['a redirect', 302, ctx => ctx.redirect('/')],
    ['no content', 204, ctx => Object.assign(ctx, { body: null })],
  ])('an EventSource gets %s if that is the answer', async (_, status, handler) => {
    const { origin } = await serve(Koa, koasse(), handler)
    const { headers, ...rest } = await answer(origin, '/', eventSource)
    expect(rest.status).toBe(status)
    expect(headers['content-type']).not.toBe('text/event-stream')
  })

  test('a middleware that awaits sse(ctx, next) may use ctx.sse afterwards (fault 99)', async () => {
    const stream = koasse()
    const { origin, errors } = await serve(Koa, (async (ctx, next) => {
      await stream(ctx, next)
      ctx.sse.sendEnd('after')
    }) as Handler)
    expect((await answer(origin, '/', eventSource)).text).toBe(`${HELLO}data: after\n\n`)
    expect((await answer(origin)).status).toBe(404)
    expect(errors).toEqual([])
  })

  test("ctx.body = '' in the handler opens the stream (fault 99)", async () => {
    const { tick, handler } = later()
    const { origin, errors } = await serve(Koa, koasse(), ((ctx, next) => {
      ctx.body = ''
      return handler(ctx, next)
    }) as Handler)
    const client = await connect(origin, '/', eventSource)
    expect(client.headers['content-type']).toBe('text/event-stream')
    expect(client.headers['content-length']).toBeUndefined()
    tick.resolve()
    await client.until(({ data }) => data.includes('later'))
    expect(errors).toEqual([])
  })

  test('sse(options)(ctx, next) in each request opens a stream, and its pool is closed with it (fault 99)', async () => {
    const close = vi.spyOn(ClientPool.prototype, 'close')
    let stream: CompatStream | undefined
    const { origin, errors } = await serve(
      Koa,
      ((ctx, next) => koasse({ closeEvent: 'over' })(ctx, next)) as Handler,
      (ctx => {
        stream = ctx.sse
        if (ctx.path === '/short') ctx.sse.sendEnd()
      }) as Handler,
    )
    const client = await connect(origin)
    await client.until(({ text }) => text === HELLO)
    expect(close).not.toHaveBeenCalled()
    const closed = deferred()
    stream?.once('close', closed.resolve)
    client.close()
    await closed.promise
    expect(close).toHaveBeenCalledOnce()
    expect((await answer(origin, '/short')).text).toBe(`${HELLO}event: over\ndata: \n\n`)
    expect(close).toHaveBeenCalledTimes(2)
    expect(errors).toEqual([])
    close.mockRestore()
  })

  test.each([
    ['alone', (error: Error) => error],
    ['in a field', (error: Error) => ({ data: error })],
  ])('an Error as data, %s, is sent as its text (fault 99)', async (_, item) => {
    const { origin } = await serve(Koa, koasse(), (ctx => {
      ctx.sse.sendEnd(item(new TypeError('no such file')))
    }) as Handler)
    expect((await answer(origin)).text).toBe(`${HELLO}data: TypeError: no such file\n\n`)
  })
})
