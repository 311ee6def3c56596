import { redisLog } from 'koa-sse-pool/redis'
import { createClient, createCluster } from 'redis'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { append, type LogProcess, nonce, start } from '../../src/testing/process.js'
import { drivers, RedisServer } from '../helpers/redis.js'
import { names } from '../helpers/redis-process.js'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start('--repl-diskless-sync-delay', '0')
})
beforeEach(async () => void (await server.command('FLUSHALL')))
afterAll(() => server.stop())

type Options = Partial<Parameters<typeof redisLog>[0]>

async function open(options: Options = {}): Promise<LogProcess & { readonly foreign: number }> {
  const log = redisLog({ client: createClient({ url: server.url }), key: 'log', ...options })
  onTestFinished(() => log.close())
  const process = start(log)
  await process.opened
  return Object.defineProperty(process as LogProcess & { foreign: number }, 'foreign', {
    get: () => log.foreign,
  })
}

describe('redisLog()', () => {
  const client = createClient()
  for (const [options, message] of [
    [{ client }, 'option "key" must be the key of the stream, a non-empty string; got undefined'],
    [{ client, key: 'k', maxEntry: 5 }, 'unknown option "maxEntry"; did you mean "maxEntries"?'],
    [{ client, key: 'k', timeout: 0 }, 'option "timeout" must be milliseconds, a whole number'],
    [{ client, key: 'k', maxEntries: '5' }, 'option "maxEntries" must be a whole number from 1 to'],
    [{ client, key: 'k', wait: 1 }, 'option "wait" must be an object such as { replicas: 1'],
    [{ client, key: 'k', wait: { replicas: 1 } }, 'wait: option "timeout" must be milliseconds'],
    [{ key: 'k' }, 'option "client" must be a client made by createClient()'],
    [{ key: 'k', client: 'redis://' }, 'or by new Redis() of "ioredis"; got "redis://"'],
    [
      { key: 'k', client: createCluster({ rootNodes: [] }) },
      'must be a client of one node; got one of a cluster',
    ],
    [undefined, 'options must be an object; got undefined'],
    [
      client,
      "options must be an object; got a client; write redisLog({ client, key: 'app:events' })",
    ],
    [createCluster({ rootNodes: [] }), 'options must be an object; got a client; write redisLog('],
    [
      'redis://:secret@localhost',
      'got a string; write redisLog({ client: createClient({ url }), key })',
    ],
    [
      { key: 'k', client: 'redis://:secret@localhost' },
      'or by new Redis() of "ioredis"; got a URL',
    ],
    [
      { key: 'k', url: 'redis://' },
      'unknown option "url"; pass a client instead: redisLog({ client: createClient({ url }), key })',
    ],
    [
      { redis: client, key: 'k' },
      'unknown option "redis"; did you mean "client"? Write redisLog({ client: createClient({ url }), key })',
    ],
    [{ client, stream: 'k' }, 'unknown option "stream"; did you mean "key"?'],
    [{ client, key: 'k', maxLen: 5 }, 'unknown option "maxLen"; did you mean "maxEntries"?'],
    [{ client, key: 'k', MAXLEN: 5 }, 'unknown option "MAXLEN"; did you mean "maxEntries"?'],
  ] as const) {
    test(`throws a TypeError that says: ${message}`, () => {
      expect(() => redisLog(options as never)).toThrow(TypeError)
      expect(() => redisLog(options as never)).toThrow(message)
    })
  }

  test.each(names)('given a client of %s instead of options says what to write', name => {
    const { client, end } = drivers[name]('redis://localhost')
    onTestFinished(end)
    expect(() => redisLog(client as never)).toThrow('got a client; write redisLog({ client, key')
  })
})

describe.each(names)('the Redis log with %s', name => {
  test('opens two connections of its own, and does not touch the client', async () => {
    const { client } = drivers[name](server.url, { name: 'mine', connectionName: 'mine' })
    const before = 'isOpen' in client ? client.isOpen : client.status
    const process = await open({ client })
    const names = async () =>
      String(await server.command('CLIENT', 'LIST')).match(/name=mine/g)?.length ?? 0
    expect(await names()).toBe(2)
    await process.log.close()
    await expect.poll(names).toBe(0)
    expect('isOpen' in client ? client.isOpen : client.status).toBe(before)
  })

  test('puts the key prefix of the client before its key', async () => {
    const { client } = drivers[name](server.url, { keyPrefix: 'app:' })
    const process = await open({ client, blockMs: 500 })
    await append(process, 'hello')
    await process.has(['hello'])
    expect(await server.command('KEYS', '*')).toEqual(['app:log'])
    await server.command('FLUSHALL')
    await append(process, 'again')
    await process.until('replaced', () => process.resets.includes('replaced'))
  })

  test('waits for replicas if the option says so', async () => {
    const { client } = drivers[name](server.url)
    const process = await open({ client, wait: { replicas: 1, timeout: 1000 } })
    const entry = { nonce: nonce(), target: '*', frame: 'hello' }
    await expect(process.log.append(entry)).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_UNCERTAIN',
      message: expect.stringContaining('0 of 1 replicas have it after 1000 ms'),
    })
    await process.has(['hello'])
    // Readers have the entry already, but its replica is still missing.
    await expect(process.log.append(entry)).rejects.toThrow('0 of 1 replicas')
    const replica = await RedisServer.start('--replicaof', '127.0.0.1', `${server.port}`)
    onTestFinished(() => replica.stop())
    const isOnline = async () => String(await server.command('INFO', 'replication'))
    await expect.poll(isOnline, { timeout: 20_000 }).toContain('state=online')
    expect(await process.log.append(entry)).toBe(process.entries[0]?.id)
    const id = await append(process, 'replicated')
    await process.has(['hello', 'replicated'])
    expect(process.entries[1]?.id).toBe(id)
    await replica.command('REPLICAOF', 'NO', 'ONE')
    expect(await replica.command('XLEN', 'log')).toBe(await server.command('XLEN', 'log'))
  }, 30_000)
})

describe('the stream', () => {
  test('is trimmed to about maxEntries, and a new process reads no more than that', async () => {
    const process = await open({ maxEntries: 150 })
    const frames = Array.from({ length: 1000 }, (_, index) => `${index}`)
    await Promise.all(frames.map(frame => append(process, frame)))
    expect(await server.command('XLEN', 'log')).toBeLessThan(350)
    const late = await open({ maxEntries: 150 })
    await late.has(frames.slice(-150))
  })

  test('is read up to windowBytes at the start, keeping the newest entries', async () => {
    const process = await open()
    for (const frame of 'abc') await append(process, frame.repeat(1000))
    const late = await open({ windowBytes: 2500 })
    expect(late.entries.map(({ frame }) => frame[0])).toEqual(['b', 'c'])
    const tiny = await open({ windowBytes: 1 })
    expect(tiny.entries.map(({ frame }) => frame[0])).toEqual(['c'])
  })

  test('has ids that no forged id equals', async () => {
    const process = await open()
    const id = await append(process, 'hello')
    expect(id).toMatch(/^\d{13}-\d+-[\w-]{8}$/)
    const { log } = process
    const forged = id.replace(/.{8}$/, 'AAAAAAAA')
    expect(log.compare(id, forged)).toBe(0)
    expect(log.compare('9-2-a-b_c-de', '9-10-________')).toBeLessThan(0)
    for (const foreign of [
      '$',
      '+',
      '-',
      '>',
      '*',
      "' OR 1",
      '../',
      '1-2',
      '1-2-',
      '-1-2-aaaaaaaa',
    ]) {
      expect(log.compare(id, foreign)).toBeNaN()
    }
  })

  test('is read past foreign rows, which are counted (fault 34)', async () => {
    const process = await open()
    await server.command('XADD', 'log', '*', 'temperature', '20')
    await server.command('XADD', 'log', '*', 'n', 'not a nonce!', 't', '*', 'f', 'x')
    await append(process, 'ours')
    await process.has(['ours'])
    expect(process.foreign).toBe(2)
    await server.command('XADD', 'log', '*', 'temperature', '21')
    // The last row is foreign: readers never receive it, so the barrier must not wait for it.
    expect(await process.log.barrier()).toBe(process.entries[0]?.id)
    const late = await open()
    await late.has(['ours'])
    expect(late.foreign).toBe(3)
  })

  test('gets a mark if it holds only foreign rows (fault 34)', async () => {
    await server.command('XADD', 'log', '*', 'temperature', '20')
    const process = await open()
    expect(process.window).toHaveLength(1)
    expect(await process.log.barrier()).toBe(process.window[0]?.id)
  })

  test('accepts no nonce that cannot be part of an id', async () => {
    const { log } = await open()
    for (const wrong of ['', 'a b', 'a'.repeat(33)]) {
      await expect(log.append({ nonce: wrong, target: '*', frame: '' })).rejects.toThrow(
        'nonce must be 1 to 32 of the characters',
      )
    }
  })

  test('can be opened by a log only once', async () => {
    const { log } = await open()
    await expect(log.open({ reset() {}, append() {}, state() {}, error() {} })).rejects.toThrow(
      'opened once',
    )
  })
})
