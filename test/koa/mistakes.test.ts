/** Habits that leave a route without its stream are named by a warning. */
import http from 'node:http'
import Koa3 from 'koa'
import Koa2 from 'koa2'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { deferred, type Handler, rawGet, serveApp } from '../helpers/app.js'
import { connect, listen, testPool } from '../helpers/server.js'

let warnings: string[]
let warned: () => void

beforeEach(() => {
  warnings = []
  warned = () => {}
  vi.spyOn(process, 'emitWarning').mockImplementation(text => {
    warnings.push(String(text))
    warned()
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** The package, as if no warning had been given yet. */
async function freshApp(handler: Handler) {
  vi.resetModules()
  const fresh = await import('koa-sse-pool')
  return serveApp(fresh.sse({ pool: testPool() as never }), handler)
}

const mistakes: [string, Handler, string][] = [
  ['ctx.body', ctx => Object.assign(ctx, { body: { ok: true } }), 'ctx.sse.send()'],
  ['ctx.status', ctx => Object.assign(ctx, { status: 202 }), 'always 200'],
  ['ctx.type', ctx => Object.assign(ctx, { type: 'text/event-stream' }), 'Remove it'],
  [
    'ctx.respond = false',
    ctx => {
      ctx.respond = false
      ctx.res.end()
    },
    'opens the response by itself',
  ],
  [
    'ctx.res',
    ctx => {
      ctx.res.write('data: x\n\n')
      setImmediate(() => ctx.res.end())
    },
    'ctx.sse.send()',
  ],
  ['ctx.status', ctx => Object.assign(ctx, { status: 304 }), 'always 200'],
  [
    'ctx.respond = false',
    ctx => {
      ctx.respond = false
      ctx.respond = true
      ctx.body = 'mine'
    },
    'opens the response by itself',
  ],
]

test.each(mistakes)(
  '%s in a handler is warned of once, with the fix (fault 108)',
  async (name, handler, fix) => {
    const { origin } = await freshApp(handler)
    await connect(origin)
    await connect(origin)
    expect(warnings).toEqual([expect.stringContaining(name)])
    expect(warnings[0]).toContain(fix)
  },
)

test.each(mistakes)('%s is not warned of in production (fault 108)', async (_, handler) => {
  vi.stubEnv('NODE_ENV', 'production')
  const { origin } = await freshApp(handler)
  await connect(origin)
  expect(warnings).toEqual([])
})

test.each<[string, Handler]>([
  ['sends', ctx => void ctx.sse.send('x')],
  ['ends the stream', ctx => ctx.sse.end()],
  ['keeps sending', async ctx => void (await ctx.sse.stream(['a', 'b']))],
  ['redirects', ctx => ctx.redirect('/')],
  ['refuses', ctx => Object.assign(ctx, { status: 409, body: 'no' })],
  ['answers by ctx.res.end()', ctx => void ctx.res.end('mine')],
])('a handler that %s is not warned of', async (_, handler) => {
  const { origin } = await freshApp(handler)
  await connect(origin)
  expect(warnings).toEqual([])
})

test('a client that has left is no mistake of the handler', async () => {
  const { origin } = await freshApp(async ctx => {
    ctx.sse.comment()
    await ctx.sse.closed
  })
  const client = await connect(origin)
  client.close()
  await connect(origin)
  expect(warnings).toEqual([])
})

describe.each([
  ['3', Koa3],
  ['2.16', Koa2],
])('on Koa %s, middleware around the stream', (_, AnyKoa) => {
  type After = (ctx: Koa3.Context) => unknown

  /** The package, as if no warning had been given yet, with middleware that does this after `await next()`. */
  async function freshAround(
    after: After,
    {
      handler = () => {},
      outermost = [],
    }: { handler?: Handler; outermost?: Koa3.Middleware[] } = {},
  ) {
    vi.resetModules()
    const fresh = await import('koa-sse-pool')
    const pool = testPool()
    const app = new AnyKoa()
    app.silent = true
    for (const middleware of outermost) app.use(middleware)
    app.use(async (ctx, next) => {
      await next()
      await after(ctx)
    })
    app.use(fresh.sse({ pool: pool as never }) as unknown as Koa3.Middleware)
    app.use(handler as Koa3.Middleware)
    return { pool, ...(await listen(http.createServer(app.callback()))) }
  }

  const unlessStream = '`if (ctx.sse === undefined)` in front of it'
  const answers: [string, After, string, { status: number; text: string }][] = [
    [
      'ctx.body was set after await next()',
      ctx => Object.assign(ctx, { body: { code: 0, data: ctx.body } }),
      unlessStream,
      { status: 200, text: '{"code":0}' },
    ],
    [
      'ctx.body was set after await next()',
      async ctx => {
        await new Promise(setImmediate)
        ctx.body = ''
      },
      unlessStream,
      { status: 200, text: '' },
    ],
    [
      'ctx.status was set after await next()',
      ctx => Object.assign(ctx, { status: 204 }),
      unlessStream,
      { status: 204, text: '' },
    ],
    [
      'ctx.status was set after await next()',
      ctx => Object.assign(ctx, { status: 304 }),
      unlessStream,
      { status: 304, text: '' },
    ],
    [
      'ctx.status was set after await next()',
      ctx => Object.assign(ctx, { body: null }),
      'ctx.body = null sets it too',
      { status: 204, text: '' },
    ],
    [
      'ctx.status became 404 after await next()',
      ctx => ctx.body || Object.assign(ctx, { status: 404, body: 'nothing here' }),
      'ctx.status === 404',
      { status: 404, text: 'nothing here' },
    ],
    [
      'ctx.status became 404 after await next()',
      ctx => ctx.body || ctx.throw(404),
      'ctx.status === 404',
      { status: 404, text: 'Not Found' },
    ],
    [
      'ctx.respond = false was set after await next()',
      ctx => {
        ctx.respond = false
        ctx.res.end('by hand')
      },
      unlessStream,
      { status: 200, text: 'by hand' },
    ],
    [
      'ctx.respond = false was set after await next()',
      ctx => {
        ctx.respond = false
        ctx.respond = true
        ctx.body = 'back'
      },
      unlessStream,
      { status: 200, text: 'back' },
    ],
    [
      'ctx.res was written to after await next()',
      ctx => {
        ctx.res.write('by ')
        setImmediate(() => ctx.res.end('hand'))
      },
      unlessStream,
      { status: 200, text: 'by hand' },
    ],
  ]

  test.each(answers)(
    'that answers instead is warned of once, with the fix: %s (fault 122)',
    async (begin, after, fix, { status, text }) => {
      const { origin, pool } = await freshAround(after)
      for (let i = 0; i < 2; i++) {
        const response = await fetch(origin)
        expect(response.status).toBe(status)
        expect(await response.text()).toBe(text)
      }
      expect(warnings).toEqual([expect.stringContaining(begin)])
      expect(warnings[0]).toContain(fix)
      expect(pool.connections).toBe(0)
    },
  )

  test.each(answers)(
    'that answers instead is not warned of in production: %s (fault 122)',
    async (_, after, __, { status, text }) => {
      vi.stubEnv('NODE_ENV', 'production')
      const { origin } = await freshAround(after)
      const response = await fetch(origin)
      expect(response.status).toBe(status)
      expect(await response.text()).toBe(text)
      expect(warnings).toEqual([])
    },
  )

  test('that sets ctx.respond to false and back leaves no request without an end (fault 122)', async () => {
    const { origin, pool } = await freshAround(ctx => {
      ctx.respond = false
      ctx.respond = true
    })
    await expect(fetch(origin)).rejects.toThrow()
    expect(warnings).toEqual([expect.stringContaining('ctx.respond = false')])
    expect(pool.connections).toBe(0)
  })

  test.each<[string, Koa3.Middleware]>([
    ['at once', (_, next) => next()],
    ['later', (_, next) => new Promise(setImmediate).then(next)],
  ])(
    'that does not wait for next(), called %s, is warned of, and keeps no place (fault 122)',
    async (_, middleware) => {
      const isWarned = deferred()
      warned = isWarned.resolve
      const forgetful: Koa3.Middleware = (ctx, next) => void middleware(ctx, next)
      const { origin, pool } = await freshAround(() => {}, { outermost: [forgetful] })
      expect((await fetch(origin)).status).toBe(404)
      await isWarned.promise
      expect(warnings).toEqual([expect.stringContaining('must return or await next()')])
      await expect.poll(() => pool.connections).toBe(0)
    },
  )

  test.each<[string, object]>([
    ['with an answer', { status: 201, body: 'mine' }],
    ['without one', { status: 200 }],
  ])('that replaces ctx.response, %s, is warned of (fault 122)', async (_, response) => {
    const isWarned = deferred()
    warned = isWarned.resolve
    const { port, pool } = await freshAround(ctx => Object.assign(ctx, { response }))
    // Koa does not answer such a request either.
    await rawGet(port, '/')
    await isWarned.promise
    expect(warnings).toEqual([expect.stringContaining('ctx.response was replaced')])
    expect(pool.connections).toBe(0)
  })

  test.each<[string, After]>([
    [
      'sets headers and a type',
      ctx => {
        ctx.set('X-Late', '1')
        ctx.type = 'json'
      },
    ],
    ['reads ctx.body, ctx.status and ctx.respond', ctx => [ctx.body, ctx.status, ctx.respond]],
    ['leaves streams alone', ctx => ctx.sse ?? Object.assign(ctx, { body: 'mine' })],
  ])('that %s is not warned of, and the stream opens', async (_, after) => {
    const { origin, pool } = await freshAround(after)
    const client = await connect(origin)
    await pool.broadcast('hello')
    await client.until(({ data }) => data.includes('hello'))
    expect(warnings).toEqual([])
  })

  test.each<[string, After]>([
    ['redirects', ctx => ctx.redirect('/login')],
    ['fails', ctx => ctx.throw(500)],
    ['refuses', ctx => ctx.throw(403)],
    ['answers with an error', ctx => Object.assign(ctx, { status: 503, body: 'later' })],
    ['ends the response', ctx => ctx.res.end('mine')],
  ])('that %s means it', async (_, after) => {
    const { origin } = await freshAround(after)
    await (await fetch(origin, { redirect: 'manual' })).text()
    expect(warnings).toEqual([])
  })

  test.each<[string, Handler]>([
    ['refuses', ctx => ctx.throw(404)],
    ['has refused', ctx => Object.assign(ctx, { status: 404, body: 'none' })],
    ['has redirected', ctx => ctx.redirect('/')],
  ])('that changes the answer of a handler that %s is not warned of', async (_, handler) => {
    const errorsAsJson: Koa3.Middleware = async (ctx, next) => {
      try {
        await next()
      } catch (error) {
        ctx.status = (error as { status: number }).status
        ctx.body = { error: 'none' }
      }
    }
    const envelope: After = ctx => Object.assign(ctx, { body: { data: ctx.body } })
    const { origin } = await freshAround(envelope, { handler, outermost: [errorsAsJson] })
    await (await fetch(origin, { redirect: 'manual' })).text()
    expect(warnings).toEqual([])
  })
})
