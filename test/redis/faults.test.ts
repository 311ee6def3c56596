import { ClientPool } from 'koa-sse-pool'
import { redisLog } from 'koa-sse-pool/redis'
import { describe, expect, onTestFinished, test } from 'vitest'
import { append, nonce } from '../../src/testing/process.js'
import { drivers, RedisServer } from '../helpers/redis.js'
import {
  begin,
  isBlocked,
  isDown,
  isReplaced,
  isUp,
  open,
  retry,
  startProxy,
  startServer,
} from '../helpers/redis-process.js'
import { connect, serveStreams } from '../helpers/server.js'

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

describe('a log that was replaced is reported as replaced (fault 27)', () => {
  test('after a restart without data', async () => {
    const server = await startServer()
    const process = await open({ url: server.url })
    const old = await append(process, 'old')
    await server.restart()
    await isReplaced(process)
    const id = await retry(() => append(process, 'new'))
    await process.has(['new'])
    expect(process.log.compare(old, id)).toBeLessThan(0)
  }, 20_000)

  test('after a FLUSHALL while the process waits for entries', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 500 })
    await append(process, 'old')
    await isBlocked(server)
    await server.command('FLUSHALL')
    await isReplaced(process)
    expect(process.entries).toEqual([])
    // The mark of the new log, so that there is a cursor.
    expect(await process.log.barrier()).toBe(process.window.at(-1)?.id)
  })

  test('after a FLUSHALL while the process is disconnected, when newer entries exist already', async () => {
    const server = await startServer()
    const process = await open({ url: server.url })
    for (const frame of 'abc') await append(process, frame)
    await isBlocked(server)
    await server.command(
      'EVAL',
      `redis.call('FLUSHALL')
       redis.call('XADD', 'log', '99999999999999-0', 'n', 'newEntry', 't', '*', 'f', 'new')`,
      0,
    )
    await isReplaced(process)
    await process.has(['new'])
  })

  test('when Redis assigns the same row id again', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 500 })
    const id = await append(process, 'old')
    await process.has(['old'])
    await isBlocked(server)
    const rowId = id.split('-', 2).join('-')
    await server.command(
      'EVAL',
      `redis.call('FLUSHALL')
       redis.call('XADD', 'log', '${rowId}', 'n', 'newEntry', 't', '*', 'f', 'new')`,
      0,
    )
    await isReplaced(process)
    await process.has(['new'])
    expect(process.log.compare(id, process.entries[0]?.id as string)).toBe(0)
    expect(process.entries[0]?.id).not.toBe(id)
  })
})

describe('a stream that was changed by another program (fault 28)', () => {
  test('is reported as trimmed if entries were deleted before they were read', async () => {
    const server = await startServer()
    const proxy = await startProxy(server)
    const behind = await open({ url: proxy.url })
    const writer = await open({ url: server.url })
    await append(writer, 'read')
    await behind.has(['read'])
    proxy.hold()
    for (const frame of 'abcde') await append(writer, frame)
    await server.command('XTRIM', 'log', 'MAXLEN', 2)
    proxy.release()
    await behind.until('trimmed', () => behind.resets.includes('trimmed'))
    await behind.has(['d', 'e'])
    await append(writer, 'live')
    await behind.has(['d', 'e', 'live'])
  })

  test('is reported as trimmed and not as replaced, even by processes that created it together', async () => {
    const server = await startServer()
    for (let round = 0; round < 30; round++) {
      const key = `log${round}`
      const both = [begin({ url: server.url, key }), begin({ url: server.url, key })]
      for (const process of both) await process.opened
      await server.command('XTRIM', key, 'MAXLEN', 0)
      await server.command('XADD', key, '*', 'n', nonce(), 't', '*', 'f', 'new')
      for (const process of both) {
        await process.until('arrived', () => process.entries.length === 1)
        expect(process.resets).toEqual(['boot', 'trimmed'])
      }
    }
  })

  test('is reported once if the key has another type, retried with pauses, and read again later', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 200 })
    await append(process, 'old')
    await server.command('SET', 'log', 'something else')
    await isDown(process)
    await expect(append(process, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('the key holds something other than a stream'),
    })
    const failed = async () =>
      Number(/WRONGTYPE:count=(\d+)/.exec(String(await server.command('INFO', 'errorstats')))?.[1])
    // Enough attempts for the pauses to have grown; a loop without pauses would be at thousands.
    await expect.poll(failed, { timeout: 10_000 }).toBeGreaterThan(6)
    expect(await failed()).toBeLessThan(30)
    expect(process.errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(/out of reach: WRONGTYPE .*\(the key holds something other than a/),
    ])
    await server.command('DEL', 'log')
    await isUp(process)
    expect(process.resets).toEqual(['boot', 'replaced'])
    await append(process, 'new')
    await process.has(['new'])
  }, 30_000)
})

test('an append rejects when Redis is out of memory, and the log stays up (fault 29)', async () => {
  const server = await startServer()
  const process = await open({ url: server.url })
  await server.command('CONFIG', 'SET', 'maxmemory', 1)
  await expect(append(process, 'x')).rejects.toMatchObject({
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringMatching(/not stored: OOM .*maxmemory; raise it, or lower maxEntries/),
  })
  expect(process.isUp).toBe(true)
  await server.command('CONFIG', 'SET', 'maxmemory', 0)
  await append(process, 'hello')
  await process.has(['hello'])
})

test('a client that is ahead of a stalled process waits, and receives nothing twice (fault 31)', async () => {
  const server = await startServer()
  const proxy = await startProxy(server)
  const writer = await open({ url: server.url })
  const { client } = drivers.ioredis(proxy.url)
  const pool = new ClientPool({ log: redisLog({ client, key: 'log' }) })
  onTestFinished(() => pool.close())
  const { origin } = await serveStreams({ pool })
  const early = await connect(origin, '/?id=early')
  await early.event('sse.cursor')
  await append(writer, 'data: one\n\n')
  await early.until(({ data }) => data.includes('one'))
  proxy.hold()
  const cursor = await append(writer, 'data: two\n\n')
  const ahead = await connect(origin, '/?id=ahead', resumeWith(cursor))
  await expect.poll(() => pool.stats().parked).toBe(1)
  await append(writer, 'data: three\n\n')
  proxy.release()
  await ahead.until(({ data }) => data.includes('three'))
  await early.until(({ data }) => data.includes('three'))
  expect(ahead.data).toEqual(['three'])
  expect(early.data).toEqual(['one', 'two', 'three'])
  expect(pool.stats()).toMatchObject({ gaps: 0, parked: 0 })
})

test('without Redis a pool opens streams, and resuming clients wait until it is there (fault 32)', async () => {
  const server = await RedisServer.absent('--appendonly', 'yes', '--appendfsync', 'always')
  onTestFinished(() => server.stop())
  const { client } = drivers.ioredis(server.url)
  const pool = new ClientPool({ log: redisLog({ client, key: 'log' }) })
  onTestFinished(() => pool.close())
  pool.on('error', () => {})
  const { origin } = await serveStreams({ pool })
  const [fresh, back] = [
    await connect(origin, '/?id=fresh'),
    await connect(origin, '/?id=back', resumeWith('1-0-aaaaaaaa')),
  ]
  await expect.poll(() => pool.stats().log).toBe('down')
  const [stream] = pool.get('fresh')?.streams ?? []
  stream?.send('direct')
  await fresh.until(({ data }) => data.includes('direct'))
  await expect(pool.broadcast('x')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  expect(back.events).toEqual([])
  await server.run()
  await back.event('sse.gap')
  await expect.poll(() => pool.stats().log, { timeout: 10_000 }).toBe('up')
  await pool.broadcast('there')
  for (const one of [fresh, back]) await one.until(({ data }) => data.includes('there'))
}, 20_000)
