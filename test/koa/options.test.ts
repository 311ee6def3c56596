/** What `sse()` says of a wrong option of a route: its name, what is expected, what came, and the likely fix. */
import { type SseOptions, sse } from 'koa-sse-pool'
import { expect, onTestFinished, test } from 'vitest'
import { serveApp } from '../helpers/app.js'
import { connect, testPool } from '../helpers/server.js'

const DONE = "a text such as '[DONE]'"
const HOSTS = "an array of host names without scheme and port such as ['app.example', 'localhost']"
const ORIGINS = "an array of origins such as ['https://app.example'], or a function"

test.each<[unknown, string]>([
  [{ done: '' }, `"done" must be ${DONE}; got ""`],
  [{ done: 0 }, `"done" must be ${DONE}; got 0 (number)`],
  [{ done: '[DONE]', longPoll: true }, '"longPoll" needs ids; drop "done"'],
  [{ resume: false, longPoll: true }, '"longPoll" needs ids; drop "resume: false"'],
  [{ accept: 'text/html' }, '"accept" must be \'event-stream\' or \'any\'; got "text/html"'],
  [{ allowedHosts: ['app.example', 'https://b.example'] }, `"allowedHosts" must be ${HOSTS}`],
  [{ allowedHosts: ['app.example:8080'] }, `"allowedHosts" must be ${HOSTS}`],
  [{ allowedHosts: ['a host'] }, `"allowedHosts" must be ${HOSTS}`],
  [{ allowedHosts: [7] }, `"allowedHosts" must be ${HOSTS}`],
  [{ allowedHosts: [['app.example']] }, `"allowedHosts" must be ${HOSTS}`],
  [{ allowedOrigins: ['*'] }, `"allowedOrigins" must be ${ORIGINS}; got "*"; browsers refuse it`],
  [
    { allowedOrigins: 'http://app.example/page' },
    `"allowedOrigins" must be ${ORIGINS}; got "http://app.example/page"; write ['http://app.example']`,
  ],
  [{ allowedOrigins: ['https://'] }, `"allowedOrigins" must be ${ORIGINS}; got "https://"`],
  [
    { allowedOrigins: ['view-source:https://app.example'] },
    'got "view-source:https://app.example"',
  ],
  [{ allowedOrigins: [['https://app.example']] }, `"allowedOrigins" must be ${ORIGINS}; got `],
  [{ allowedOrigins: [5] }, `"allowedOrigins" must be ${ORIGINS}; got 5 (number)`],
])('%o', (options, message) => {
  const error = errorOf(() => sse(options as SseOptions))
  expect(error).toBeInstanceOf(TypeError)
  expect(error.message).toContain('sse(): option ')
  expect(error.message).toContain(message)
  // A hint to write the same again, or a wrong address, would mislead.
  if (!message.includes('; write')) expect(error.message).not.toContain('; write')
})

test('an option that is undefined is one that is not given', async () => {
  const options = {
    maxClients: undefined,
    done: undefined,
    allowedHosts: undefined,
    longPoll: undefined,
  }
  const middleware = sse({ pool: testPool(), ...options })
  const { origin } = await serveApp(middleware)
  await connect(origin)
  const own = sse(options)
  onTestFinished(() => own.pool.close())
})

test('an option of pools is refused beside a pool, which has its own', () => {
  const options = { pool: testPool(), maxClients: 1 } as SseOptions
  expect(errorOf(() => sse(options)).message).toContain('maxClients')
})

function errorOf(action: () => unknown): Error {
  try {
    action()
  } catch (error) {
    return error as Error
  }
  throw new Error('Nothing was thrown')
}
