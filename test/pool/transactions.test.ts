/** The option `transaction`: what the pool hands to a log that takes it, and refuses for all others. */
import { ClientPool, type Entry, type PoolOptions, SseError } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

/** Stores entries of a transaction only when the test commits it. */
class TransactionalLog extends FakeLog {
  readonly takesTransactions = true
  readonly written: { entry: Omit<Entry, 'id'>; transaction: unknown }[] = []
  beforeWrite: () => Promise<void> = async () => {}

  override async append(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string> {
    if (transaction === undefined) return super.append(entry)
    await this.beforeWrite()
    this.written.push({ entry, transaction })
    return ''
  }

  commit(): void {
    for (const { entry } of this.written.splice(0)) this.store(entry)
    this.deliver()
  }
}

async function serve() {
  const log = new TransactionalLog()
  const pool = testPool({ log })
  const { origin } = await serveStreams({ pool, channels: () => ['news', 'sport'] })
  return { log, pool, client: await connect(origin, '/?id=ada') }
}

describe('a send with a transaction', () => {
  test('hands it to the log and resolves before the commit, and the event arrives after it', async () => {
    const { log, pool, client } = await serve()
    const transaction = { query() {} }
    const options = { transaction }
    expect(await pool.send('ada', 'own', options)).toBe('')
    expect(await pool.broadcast({ event: 'news', data: 'all' }, options)).toBe('')
    expect(await pool.channel('news').send('channel', { except: 'bob', transaction })).toBe('')
    expect(await pool.channels('news', 'sport').send('channels', options)).toBe('')
    expect(log.written.map(({ entry }) => entry.target)).toEqual([
      '@ada',
      '*',
      '#news\nbob',
      '#news\n\t#sport',
    ])
    expect(log.written.every(write => write.transaction === transaction)).toBe(true)
    await pool.broadcast('sent meanwhile')
    log.commit()
    await client.until(({ data }) => data.includes('channels'))
    expect(client.data).toEqual(['sent meanwhile', 'own', 'all', 'channel', 'channels'])
  })

  test('ends streams after the commit', async () => {
    const { log, pool, client } = await serve()
    await pool.remove('ada', undefined, { transaction: 'open' })
    expect(pool.has('ada')).toBe(true)
    log.commit()
    await client.until(({ events }) => events.some(({ event }) => event === 'close'))
  })

  test('holds back no direct send, as the commit may take long', async () => {
    const { log, pool, client } = await serve()
    const written = deferred()
    log.beforeWrite = () => written.promise
    const sent = pool.send('ada', 'later', { transaction: 'open' })
    pool.get('ada')?.streams.forEach(stream => {
      stream.send('direct')
    })
    await client.until(({ data }) => data.includes('direct'))
    written.resolve()
    await sent
    log.commit()
    await client.until(({ data }) => data.includes('later'))
  })

  test('rejects without a retry, because the transaction has failed too', async () => {
    const { log, pool } = await serve()
    const errors: unknown[] = []
    pool.on('error', error => errors.push(error))
    const lost = new SseError('ERR_SSE_LOG_UNCERTAIN', 'The connection was lost')
    log.beforeWrite = () => Promise.reject(lost)
    await expect(pool.broadcast('lost', { transaction: 'open' })).rejects.toBe(lost)
    expect(lost.retry).toBeUndefined()
    expect(errors).toEqual([lost])
    await pool.close()
    await expect(pool.broadcast('late', { transaction: 'open' })).rejects.toMatchObject({
      code: 'ERR_SSE_POOL_CLOSED',
    })
  })
})

describe('a transaction', () => {
  const refused = (pool: ClientPool, transaction: unknown) =>
    [
      ['send()', () => pool.send('ada', 'text', { transaction })],
      ['broadcast()', () => pool.broadcast('text', { transaction })],
      ['channel.send()', () => pool.channel('news').send('text', { transaction })],
      ['channel.send()', () => pool.channels('a', 'b').send('text', { transaction })],
      ['remove()', () => pool.remove('ada', '', { transaction })],
    ] as const

  const logs: [string, PoolOptions, string][] = [
    ['the memory log', {}, 'the memory log'],
    ['a log that cannot take it', { log: new FakeLog() }, 'a log without transactions'],
  ]
  test.each(logs)('is refused for %s, with the likely fix', async (_, options, name) => {
    const pool = testPool(options)
    for (const [call, send] of refused(pool, {})) {
      expect(send).toThrow(
        new TypeError(
          `${call}: option "transaction" needs a log that can store the event in it; got an object, but the pool has ${name}; create the pool with { log: postgresLog(…) } or { log: sqliteLog(…) }`,
        ),
      )
    }
    expect(pool.stats().entries).toBe(0)
  })

  test('of null is refused, because the event would be stored at once', () => {
    const pool = testPool({ log: new TransactionalLog() })
    for (const [call, send] of refused(pool, null)) {
      expect(send).toThrow(`${call}: option "transaction" must be what the log takes`)
    }
  })

  test('of undefined is none', async () => {
    const pool = new ClientPool()
    for (const [, send] of refused(pool, undefined)) expect(await send()).not.toBe('')
    await pool.close()
  })

  test('is the only option of send() and remove(), and the error says so', () => {
    // biome-ignore lint/suspicious/noExplicitAny: the calls are wrong on purpose
    const pool = testPool() as any
    expect(() => pool.send('ada', { data: 1 }, { transactoin: {} })).toThrow(
      new TypeError('send(): unknown option "transactoin"; did you mean "transaction"?'),
    )
    expect(() => pool.send('ada', { data: 1 }, 'client')).toThrow(
      'send(): options must be an object such as { transaction: client }; got "client"',
    )
    expect(() => pool.remove('ada', '', { except: 'bob' })).toThrow(
      new TypeError('remove(): unknown option "except"; known are transaction'),
    )
  })
})
