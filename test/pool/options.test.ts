import { ClientPool, type PoolOptions, type SseOptions, sse } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test } from 'vitest'
import { testPool } from '../helpers/server.js'

/** Values that JavaScript code without types may pass. */
const newPool = (options: unknown) => {
  const pool = new ClientPool(options as PoolOptions)
  onTestFinished(() => pool.close())
  return pool
}
const newSse = (options: unknown) => {
  const middleware = sse(options as SseOptions)
  onTestFinished(() => middleware.pool.close())
  return middleware
}

function messageOf(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError)
    return (error as Error).message
  }
  throw new Error('Nothing was thrown')
}

const WHOLE = 'a whole number of at least 1, or Infinity'
const BYTES = 'a whole number of bytes, at least 1'
const MS = 'milliseconds, a whole number of at least 1'

const POOL_OPTIONS: [option: keyof PoolOptions, wrong: unknown[], expected: string][] = [
  ['maxClients', [0, -1, 1.5, Number.NaN, '10', null, {}], WHOLE],
  ['maxStreamsPerClient', [0, '1', true], WHOLE],
  ['maxStreamsPerConnection', [0, '1', true], WHOLE],
  ['onDuplicate', ['keep', true, ''], "'replace' or 'reject'"],
  ['maxStreamsPerAddress', [0, '20', 1.5], WHOLE],
  ['connectRate', [0, -1, '5', Number.NaN], 'a number of streams per second above 0, or Infinity'],
  [
    'trustedProxies',
    [-1, 0.5, true, '1', 101],
    'the number of proxies, a whole number from 0 to 100',
  ],
  ['pingInterval', [0, -1, true, '15s', Number.POSITIVE_INFINITY, 2 ** 31, null], MS],
  ['heartbeat', ['none', false], "'event' or 'comment'"],
  ['maxBufferedBytes', [0, '1mb', Number.POSITIVE_INFINITY], BYTES],
  ['stallTimeout', [0, false, 2 ** 31], MS],
  ['maxEventBytes', [0, -5, []], BYTES],
  ['window', [100, [], null], 'an object such as { events: 10_000'],
  ['log', [{}, 'redis', { open() {} }], 'an event log with open, append'],
  ['serialize', ['json', {}], 'a function from data to a string'],
  ['authorize', [true, {}], 'a function from a stream to a boolean'],
]

const ROUTE_OPTIONS: [option: keyof SseOptions, wrong: unknown[], expected: string][] = [
  ['pool', [{}, null, 'pool', ClientPool], 'a ClientPool'],
  ['id', ['ada', 42, {}], 'a function such as ctx => ctx.query.id'],
  ['channels', [['news'], 'news'], 'a function that returns an array of channel names'],
  ['identify', ['ada', { id: 'ada' }, []], "an object such as { id: 'ada', channels: ['news'] }"],
  ['closeEvent', ['', 1, null], 'a non-empty event name'],
  ['matchQuery', ['', true, /id/], 'the name of a query key'],
  ['retry', [0, -1, 1.5, '3s', [], [1], [2, 1], [0, 1], [1, 2, 3]], 'milliseconds of at least 1'],
  ['replay', ['some', true, 10], "'missed' or 'latest' or 'all'"],
  ['resume', ['no', 0, null], 'a boolean'],
  ['overflow', ['drop', 503], "'reject' or 'retry'"],
  ['maxAge', [1000, [2, 1], ['1', '2'], [0, 1]], 'milliseconds as [min, max]'],
  [
    'allowedOrigins',
    ['https://app.example', ['app.example'], ['https://app.example/'], ['*'], [/x/]],
    'an array of origins',
  ],
]

const cases = (options: [string, unknown[], string][]) =>
  options.flatMap(([option, wrong, expected]) => wrong.map(value => ({ option, value, expected })))

describe('a TypeError that states the option, the rule and the value refuses', () => {
  test.each(cases(POOL_OPTIONS))('new ClientPool({ $option: $value })', given => {
    const { option, value, expected } = given
    const message = messageOf(() => newPool({ [option]: value }))
    expect(message).toMatch(new RegExp(`^ClientPool: option "${option}" must be .+; got .+`))
    expect(message).toContain(expected)
  })

  test.each(cases([...POOL_OPTIONS, ...ROUTE_OPTIONS]))('sse({ $option: $value })', given => {
    const { option, value, expected } = given
    const message = messageOf(() => newSse({ [option]: value }))
    expect(message).toMatch(new RegExp(`^sse\\(\\): option "${option}" must be .+; got .+`))
    expect(message).toContain(expected)
  })

  test.each([
    [{ events: 0 }, 'ClientPool: window: option "events" must be a whole number'],
    [{ bytes: '32MiB' }, 'option "bytes" must be a whole number of bytes, at least 1; got "32MiB"'],
    [{ size: 1 }, 'ClientPool: window: unknown option "size"'],
  ])('window: %o', (window, message) => {
    expect(messageOf(() => newPool({ window }))).toContain(message)
  })

  test.each([
    ['15s', 'got "15s"; write the number 15000, without quotes or unit'],
    [null, 'got null'],
    [true, 'got true (boolean)'],
    [-1, 'got -1 (number)'],
    [[1], 'got an array'],
    [{}, 'got an object'],
    ['x'.repeat(1000), 'got a string of 1000 characters'],
  ])('pingInterval: %s', (pingInterval, told) => {
    expect(messageOf(() => newPool({ pingInterval }))).toMatch(
      new RegExp(`${told.replace(/[()]/g, '\\$&')}$`),
    )
  })

  test.each(['sse.close', 'a\nb', 'a\u200bb'])('closeEvent: %j', closeEvent => {
    expect(messageOf(() => newSse({ closeEvent }))).toContain('sse(): option "closeEvent"')
  })

  test.each([null, 5, 'x', []])('options that are %o', options => {
    expect(messageOf(() => newPool(options))).toContain(
      'ClientPool: options must be an object; got',
    )
    expect(messageOf(() => newSse(options))).toContain('sse(): options must be an object; got')
  })
})

describe('an unknown option', () => {
  test.each([
    ['maxClient', 'maxClients'],
    ['pingintervall', 'pingInterval'],
    ['retyr', 'retry'],
    ['allowedOrigin', 'allowedOrigins'],
    ['matchquery', 'matchQuery'],
  ])('%s is answered with the nearest one, %s', (option, nearest) => {
    const message = messageOf(() => newSse({ [option]: 1 }))
    expect(message).toBe(`sse(): unknown option "${option}"; did you mean "${nearest}"?`)
  })

  test('is answered with all known ones if none is near', () => {
    const message = messageOf(() => newPool({ q: 1 }))
    expect(message).toMatch(/^ClientPool: unknown option "q"; known are maxClients, .+authorize$/)
  })

  test.each(['__proto__', 'constructor', 'toString'])('%s is not taken for a known one', name => {
    const options = JSON.parse(`{ "${name}": 1 }`)
    expect(messageOf(() => newPool(options))).toContain(`unknown option "${name}"`)
  })

  test('may be one of a route that is given to a pool', () => {
    expect(messageOf(() => newPool({ overflow: 'retry' }))).toContain('unknown option "overflow"')
  })
})

describe('next to a pool,', () => {
  test.each(POOL_OPTIONS.map(([option]) => option))('sse({ pool, %s }) is a TypeError', option => {
    const right: PoolOptions = {
      maxClients: 1,
      maxStreamsPerClient: 1,
      maxStreamsPerConnection: 1,
      onDuplicate: 'reject',
      maxStreamsPerAddress: 1,
      connectRate: 0.5,
      trustedProxies: 0,
      pingInterval: false,
      heartbeat: 'comment',
      maxBufferedBytes: 1,
      stallTimeout: 1,
      maxEventBytes: 1,
      window: {},
      log: { open: fail, append: fail, compare: () => 0, barrier: fail, close: fail },
      serialize: String,
      authorize: () => true,
    }
    const pool = testPool()
    const message = messageOf(() => sse({ pool, [option]: right[option] }))
    expect(message).toBe(
      `sse(): option "${option}" belongs to the given pool; set it in new ClientPool({ ${option}: … })`,
    )
  })

  test('undefined counts as absent', () => {
    expect(() => newSse({ maxClients: undefined, retry: undefined })).not.toThrow()
    expect(() => newPool({ maxClients: undefined, authorize: undefined })).not.toThrow()
  })
})

test('a pool that is undefined is an error, not a new pool to which nobody sends (fault 109)', () => {
  expect(messageOf(() => newSse({ pool: undefined, retry: 1000 }))).toBe(
    'sse(): option "pool" is undefined; import the pool before its routes, or leave "pool" out to create a new one',
  )
})

test.each([
  ['*', '"*"; browsers refuse it with credentials, so list each origin'],
  ['https://app.example/', `"https://app.example/"; write ['https://app.example']`],
  ['https://app.example:443', `"https://app.example:443"; write ['https://app.example']`],
  ['app.example', '"app.example"'],
])(
  'an allowedOrigins of [%j] is answered with the origin that is expected (fault 109)',
  (wrong, came) => {
    expect(messageOf(() => newSse({ allowedOrigins: ['https://ok.example', wrong] }))).toBe(
      `sse(): option "allowedOrigins" must be an array of origins such as ['https://app.example'], or a function; got ${came}`,
    )
  },
)

test('an option out of habit is answered with the one it has here (fault 109)', () => {
  const unknown = (option: string) => messageOf(() => newPool({ [option]: 1 }))
  expect(unknown('keepAlive')).toBe(
    'ClientPool: unknown option "keepAlive"; did you mean "pingInterval"?',
  )
  expect(unknown('redis')).toBe('ClientPool: unknown option "redis"; did you mean "log"?')
  const client = { duplicate() {}, sendCommand() {}, connect() {} }
  for (const message of [
    messageOf(() => newPool({ log: client })),
    messageOf(() => newSse({ log: client })),
  ]) {
    expect(message).toMatch(/ such as redisLog\({ client, key }\); got an object$/)
  }
})

test.each(['id', 'channels'])(
  'identify together with %s is refused, and the error says which to drop',
  name => {
    const options = { identify: () => ({}), [name]: () => undefined }
    expect(messageOf(() => newSse(options))).toBe(
      `sse(): option "${name}" cannot be combined with "identify"; drop "${name}" and let "identify" return { ${name} }`,
    )
  },
)

test('every value that the documentation allows is accepted', () => {
  const right: SseOptions[] = [
    {},
    { maxClients: Number.POSITIVE_INFINITY, maxStreamsPerClient: 1, onDuplicate: 'reject' },
    { maxStreamsPerAddress: 1, connectRate: 0.01, trustedProxies: 2 },
    { connectRate: Number.POSITIVE_INFINITY, trustedProxies: 0 },
    { pingInterval: false, heartbeat: 'comment', window: { events: 1, bytes: 1 } },
    { retry: 3000, maxAge: [1, 1], replay: 'all', resume: false, overflow: 'retry' },
    { retry: [1, 2 ** 31 - 1], closeEvent: 'bye', matchQuery: 'sse', id: () => null },
    { allowedOrigins: ['https://app.example', 'http://localhost:3000'], channels: () => [] },
    { identify: () => ({}), id: undefined, channels: undefined },
    { identify: async () => ({ id: 42, channels: ['news'] }) },
    { allowedOrigins: origin => origin.endsWith('.example') },
  ]
  for (const options of right) expect(newSse(options).pool).toBeInstanceOf(ClientPool)
})

function fail(): never {
  throw new Error('Nobody should call this')
}
