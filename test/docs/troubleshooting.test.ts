/** docs/troubleshooting.md: the errors and messages that it lists are those that there are. */
import { readFileSync } from 'node:fs'
import { ClientPool, type PoolEvent, type SseOptions, sse } from 'koa-sse-pool'
import request from 'supertest'
import { afterEach, expect, test, vi } from 'vitest'
import { deferred, serveApp } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'
import { readPage } from '../helpers/snippets.js'

const page = readPage('docs/troubleshooting.md')
const sourceOf = (path: string) =>
  readFileSync(new URL(`../../src/${path}`, import.meta.url), 'utf8')

/** The text in backticks at the start of a column, of each row of the table with this heading. */
function column(heading: string, index: number): string[] {
  const [, table = ''] = page.split(`| ${heading} |`)
  const rows = (table.split('\n\n')[0] as string).split('\n').slice(2)
  return rows.map(row => /^`(.+)`$/.exec(row.split(/ ?\| /)[index] as string)?.[1] as string)
}

afterEach(() => {
  vi.restoreAllMocks()
})

test('the table of errors has a row for each code', () => {
  const [, union = ''] = sourceOf('lib/errors.ts').split('export type SseErrorCode =')
  const codes = (union.split('\n\n')[0] as string).match(/ERR_SSE_\w+/g)
  expect(codes?.length).toBeGreaterThan(5)
  expect(column('code | cause | cure', 1)).toEqual(codes)
})

test('the table of warnings has a row for each warning of src/koa/mistakes.ts', () => {
  const messages = [...sourceOf('koa/mistakes.ts').matchAll(/'(ctx\.[^']+)'/g)]
  const warnings = messages.map(([, text]) => (text as string).split(/, | which|\. /)[0])
  const [, section = ''] = page.split('| the warning begins with |')
  const begins = [...section.matchAll(/^\| `(.+?)` \|/gm)].map(([, text]) => text)
  expect(begins).toHaveLength(13)
  expect(begins.toSorted()).toEqual(warnings.toSorted())
})

/** What each call of the table throws. */
async function messages(): Promise<string[]> {
  const pool = testPool()
  const event = (event: unknown) => () => pool.send('ada', event as PoolEvent)
  const options = (options: object) => () => sse(options as SseOptions)
  const data = 1
  const calls: (() => unknown)[] = [
    options(pool),
    options({ pool: undefined }),
    options({ pool, maxClients: 2 }),
    () => new ClientPool({ keepAlive: 5000 } as object),
    () => pool.on('connection' as never, () => {}),
    () => Reflect.apply(pool.send, pool, ['ada', 'update', { count: 1 }]),
    event({ count: 1 }),
    event(42),
    event({ data: Promise.resolve(1) }),
    event({ id: 7, data }),
    event({ event: 'sse.gap', data }),
  ]
  const thrown = calls.map(call => {
    try {
      call()
    } catch (error) {
      expect(error).toBeInstanceOf(TypeError)
      return (error as Error).message
    }
    throw new Error(`Nothing was thrown by ${call}`)
  })
  const except = () => true
  expect(() => pool.broadcast('x', { except: except as never })).toThrow(TypeError)
  return [
    ...thrown,
    await errorIn(sse({ pool }), ctx => void ctx.sse.send({ key: 'a', data } as never)),
    await Promise.resolve()
      .then(() => pool.broadcast('x', { except: except as never }))
      .catch(({ message }) => message),
    await errorIn(sse({ pool }), sse({ pool }) as never),
    await errorIn(sse({ pool, identify: (() => 'ada') as never }), () => {}),
    await unheardError(),
  ]
}

/** What Koa reports of an app with these middlewares. */
async function errorIn(...middlewares: Parameters<typeof serveApp>): Promise<string> {
  const { origin, errors } = await serveApp(...middlewares)
  await request(origin).get('/').expect(500)
  return errors[0]?.message as string
}

/** The warning for an error of the log that nobody listens to. */
async function unheardError(): Promise<string> {
  const warned = deferred<string>()
  vi.spyOn(process, 'emitWarning').mockImplementation(text => warned.resolve(String(text)))
  const pool = testPool()
  pool.on('open', () => {
    throw new Error('a listener that fails')
  })
  const { origin } = await serveApp(sse({ pool }))
  await connect(origin)
  return warned.promise
}

test('each message in the table of mistakes is what the call in its row says', async () => {
  const rows = column('you wrote | the message | write instead', 2)
  const said = await messages()
  expect(rows).toHaveLength(said.length)
  const wrong = rows.filter((row, index) => !said[index]?.includes(row))
  expect(wrong, said.join('\n')).toEqual([])
})

test('each text in the table of refusals is in the source', () => {
  const source = sourceOf('koa/middleware.ts').replace(/\$\{EVENT_STREAM\}/g, 'text/event-stream')
  const texts = column('status | text | cause | cure', 2).filter(text => text !== undefined)
  expect(texts.length).toBeGreaterThan(8)
  // Koa's own, and one that is made of two parts.
  const others = ['Not Found', 'Unauthorized', 'The event stream is full …']
  const known = texts.filter(text => !others.includes(text))
  expect(known.filter(text => !source.includes(text.replace(' …', '')))).toEqual([])
})
