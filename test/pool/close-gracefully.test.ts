import { once } from 'node:events'
import http from 'node:http'
import Koa from 'koa'
import { closeGracefully, sse } from 'koa-sse-pool'
import { describe, expect, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect, listen, rawConnection, serveStreams, testPool } from '../helpers/server.js'

describe('closeGracefully', () => {
  test('ends the streams, then the server, and tells the browsers to come back', async () => {
    const pool = testPool()
    const { server, origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    void pool.broadcast('last')
    await closeGracefully(server, pool, { spread: 0 })
    expect(server.listening).toBe(false)
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['last'])
    expect(client.text).toMatch(/^retry: \d{4}$/m)
    await expect(pool.broadcast('too late')).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
  })

  test('closes several pools, and the one that sse() has made', async () => {
    const shared = testPool()
    const own = sse({ id: () => 'bob' })
    const app = new Koa()
    const forAda = sse({ pool: shared, id: () => 'ada' })
    app.use((ctx, next) => (ctx.path === '/ada' ? forAda : own)(ctx as never, next))
    const server = http.createServer(app.callback())
    const { origin } = await listen(server)
    const clients = [await connect(origin, '/ada'), await connect(origin, '/bob')]
    await closeGracefully(server, [shared, own.pool], { spread: 0 })
    for (const { ended } of clients) expect(await ended).toBe(true)
  })

  test('lets other requests finish, and destroys those that take longer than the timeout', async () => {
    const pool = testPool()
    const answer = deferred()
    const app = new Koa()
    app.use(async ctx => {
      if (ctx.path === '/hangs') await new Promise(() => {})
      await answer.promise
      ctx.body = 'done'
    })
    const server = http.createServer(app.callback())
    const { origin } = await listen(server)
    const arrived = vi.fn()
    server.on('request', arrived)
    const slow = fetch(`${origin}/slow`)
    const hanging = fetch(`${origin}/hangs`).catch(error => error)
    while (arrived.mock.calls.length < 2) await new Promise(resolve => setImmediate(resolve))
    const closed = closeGracefully(server, pool, { spread: 0, timeout: 500 })
    answer.resolve()
    expect(await (await slow).text()).toBe('done')
    await closed
    expect(await hanging).toBeInstanceOf(Error)
  })

  test('destroys a connection that has had no request when the timeout is over', async () => {
    const pool = testPool()
    const { server, port } = await serveStreams({ pool })
    const accepted = once(server, 'connection')
    const early = await rawConnection(port)
    await accepted
    const ended = once(early, 'close')
    await closeGracefully(server, pool, { spread: 0, timeout: 20 })
    await ended
  })

  test('closes the server even if a log fails to close, and then rejects', async () => {
    const pool = testPool()
    const failing = { close: () => Promise.reject(new Error('the engine is gone')) }
    const { server } = await serveStreams({ pool })
    await expect(closeGracefully(server, [failing, pool], { spread: 0 })).rejects.toThrow(
      'the engine is gone',
    )
    expect(server.listening).toBe(false)
  })

  test.each([
    [
      [new Koa(), testPool],
      /first argument must be a server, as app\.listen\(\) returns it, or an array of them; got/,
    ],
    [
      [http.createServer(), {}],
      /second argument must be a ClientPool or an array of them; got an object/,
    ],
    [[http.createServer(), [undefined]], /second argument .* got undefined/],
    [[http.createServer(), [], { spred: 1 }], /unknown option "spred"; did you mean "spread"\?/],
    [
      [http.createServer(), [], { spread: '5s' }],
      /"spread" must be milliseconds.*write the number 5000/,
    ],
    [[http.createServer(), [], { timeout: -1 }], /"timeout" must be milliseconds/],
  ])('refuses wrong arguments before it closes anything (%#)', async (args, message) => {
    await expect(
      (closeGracefully as (...args: unknown[]) => Promise<void>)(...args),
    ).rejects.toThrow(message)
  })
})
