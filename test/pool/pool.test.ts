import { once } from 'node:events'
import { ClientPool, sse } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

describe('a client pool', () => {
  test('pushes to a client by id', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const bob = await connect(origin, '/?id=bob')

    await pool.send('ada', { event: 'update', data: { count: 42 } })
    await pool.broadcast('over')

    await ada.until(({ data }) => data.includes('over'))
    await bob.until(({ data }) => data.includes('over'))
    expect(ada.data).toEqual(['{"count":42}', 'over'])
    expect(bob.data).toEqual(['over'])
  })

  test('reads like a Map from ids to clients', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=bob')

    expect(pool.size).toBe(2)
    expect(pool.connections).toBe(3)
    expect(pool.has('ada')).toBe(true)
    expect(pool.get('ada')?.streams.size).toBe(2)
    expect([...pool.keys()]).toEqual(['ada', 'bob'])
    expect([...pool].map(([id, client]) => id === client.id)).toEqual([true, true])
  })

  test('finds a client that reconnects by its id, with the streams that it has now', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const first = await connect(origin, '/?id=ada')
    const kept = pool.get('ada')
    const closed = once(pool, 'close')
    first.close()
    await closed
    expect(pool.has('ada')).toBe(false)
    expect(kept?.streams.size).toBe(0)
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=ada')
    expect(pool.get('ada')?.streams.size).toBe(2)
    // Also by a client that the app has kept.
    expect(kept?.streams.size).toBe(2)
  })
})

describe('the window', () => {
  test('keeps an entry whose target has just lost its only other entry', async () => {
    const pool = testPool({ window: { events: 3 } })
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const seen = await pool.send('ada', 'first')
    await ada.until(({ data }) => data.includes('first'))
    ada.close()
    await ada.ended
    const cursor = await pool.broadcast('second')
    await pool.broadcast('third')
    // This evicts `first`, the last entry of its target.
    await pool.send('ada', 'fourth')
    expect(seen).not.toBe(cursor)

    const back = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': cursor } })
    await back.until(({ data }) => data.includes('fourth'))
    expect(back.data).toEqual(['third', 'fourth'])
  })

  test('stays in order when a listener sends while room is being made', async () => {
    const pool = testPool({ window: { events: 5 } })
    const { origin } = await serveStreams({ pool })
    await connect(origin, '/?id=ada')
    const bob = await connect(origin, '/?id=bob')
    pool.on('close', ({ id }) => void pool.broadcast(`${id} left`))

    void pool.remove('ada')
    const sent = Array.from({ length: 12 }, (_, i) => pool.broadcast(String(i)))
    await Promise.all(sent)
    await bob.until(({ data }) => data.includes('11') && data.includes('ada left'))
    expect(bob.data.filter(data => data !== 'ada left')).toEqual(
      Array.from({ length: 12 }, (_, i) => String(i)),
    )
    const ids = bob.messages.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
  })
})

describe('a stream that has just been removed', () => {
  test('joins no channel', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const [stream] = pool.get('ada')?.streams ?? []
    void pool.remove('ada')
    stream?.join('room')
    await ada.ended
    expect(pool.stats()).toMatchObject({ channels: 0, streams: 0 })
  })
})

describe('closing a pool', () => {
  test('delivers until the last stream has ended', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const closed = pool.close({ spread: 500 })
    await pool.send('ada', 'on its way')
    await ada.until(({ data }) => data.includes('on its way'))
    await closed
    expect(pool.connections).toBe(0)
    await expect(pool.send('ada', 'late')).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
  })

  test.each([Number.NaN, -1, '5000'])('refuses a spread of %o', spread => {
    const pool = testPool()
    expect(() => pool.close({ spread: spread as number })).toThrow(/spread must be milliseconds/)
  })
})

describe('misuse:', () => {
  test('an exception that is no client id is a TypeError, and so is an unknown option', () => {
    const pool = testPool()
    for (const except of [null, [[]], [null], {}, '', 'a\nb']) {
      expect(() => pool.broadcast('x', { except: except as string })).toThrow(TypeError)
    }
    expect(() => pool.channel('c').send('x', { excpet: 'ada' } as object)).toThrow(/"excpet"/)
  })

  test('a pool in place of options is a TypeError that shows the fix', () => {
    expect(() => sse(testPool() as object)).toThrow('sse({ pool })')
  })

  test('an asynchronous listener that fails is reported as the error event', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const failed = new Promise<Error>(resolve => pool.once('error', resolve))
    pool.once('open', async () => {
      throw new Error('in a listener')
    })
    await connect(origin, '/?id=ada')
    expect((await failed).message).toBe('in a listener')
  })
})

test('a number is the same id as its text', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const seven = await connect(origin, '/?id=7')
  expect([pool.has(7), pool.get(7)?.id]).toEqual([true, '7'])
  await pool.broadcast('others', { except: 7 })
  await pool.send(7, 'you')
  await seven.until(({ data }) => data.includes('you'))
  expect(seven.data).toEqual(['you'])
})

test('a broadcast reaches clients even if all earlier ones left the window while nobody was connected', async () => {
  const pool = testPool({ window: { events: 1 } })
  const { origin } = await serveStreams({ pool })
  for (const event of ['one', 'two', 'three']) await pool.broadcast(event)
  for (const event of ['one', 'two', 'three']) await pool.send('nobody', event)
  const client = await connect(origin, '/?id=ada')
  await pool.broadcast('four')
  await client.until(({ data }) => data.includes('four'))
})

test('an unknown option of close() is refused, and the nearest is named (fault 95)', () => {
  const pool = testPool()
  expect(() => pool.close({ spred: 1 } as never)).toThrow(
    'close(): unknown option "spred"; did you mean "spread"?',
  )
  expect(pool.isReady).toBe(true)
})

test('a pool is closed at the end of the block that uses it', async () => {
  let inside: ClientPool
  {
    await using pool = new ClientPool()
    inside = pool
    expect(pool.isReady).toBe(true)
  }
  expect(inside.isReady).toBe(false)
  await expect(inside.broadcast('too late')).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
})

test('a send that failed in an engine of the package’s other copy can be retried too', async () => {
  /** The other copy has a class of its own, of the same name. */
  class SseError extends Error {
    readonly code = 'ERR_SSE_LOG_UNCERTAIN'
    retry?: () => Promise<string>
  }
  const log = new FakeLog()
  const pool = testPool({ log })
  pool.on('error', () => {})
  log.beforeAppend = async () => {
    throw new SseError('The reply was lost')
  }
  const error: SseError = await pool.send('ada', 'x').then(String, error => error)
  log.beforeAppend = async () => {}
  expect(await error.retry?.()).toBe('1')
})
