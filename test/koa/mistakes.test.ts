/** Habits that leave a route without its stream are named by a warning. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Handler, serveApp } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'

let warnings: string[]

beforeEach(() => {
  warnings = []
  vi.spyOn(process, 'emitWarning').mockImplementation(text => void warnings.push(String(text)))
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
