/** Sends on their way through an engine that is slow, hangs or fails. */
import { setImmediate as turn } from 'node:timers/promises'
import { SseError } from 'koa-sse-pool'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { hubOf } from '../../src/pool/hub.js'
import { deferred, watchCloses } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { isCollected } from '../helpers/gc.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

async function open() {
  const log = new FakeLog()
  log.isLive = false
  const pool = testPool({ log })
  pool.on('error', () => {})
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  return { log, pool, origin, client, stream: streamOf(pool, 'ada').face }
}

const isSettled = async (promise: Promise<unknown>) => {
  let settled = false
  const settle = () => {
    settled = true
  }
  promise.then(settle, settle)
  for (let i = 0; i < 3; i++) await turn()
  return settled
}

afterEach(() => {
  vi.useRealTimers()
})

describe('a send', () => {
  test('resolves once its entry has arrived in this process', async () => {
    const { log, pool } = await open()
    const sent = pool.send('ada', 'hello')
    expect(await isSettled(sent)).toBe(false)
    log.deliver()
    expect(await sent).toBe('1')
  })

  test('resolves when the engine was emptied before its entry arrived', async () => {
    const { log, pool } = await open()
    const sent = pool.send('ada', 'gone')
    expect(await isSettled(sent)).toBe(false)
    log.stored = []
    log.epoch = 'b'
    log.store('of another log')
    log.reset('replaced')
    expect(await sent).toBe('1')
  })

  test('resolves when its entry was trimmed before it arrived', async () => {
    const { log, pool } = await open()
    const sent = pool.send('ada', 'trimmed')
    await turn()
    log.store('later')
    log.seen = 1
    log.deliver()
    expect(await sent).toBe('1')
  })

  test('resolves when the pool closes before its entry arrives', async () => {
    const { pool } = await open()
    const sent = pool.send('ada', 'hello')
    await turn()
    await pool.close()
    expect(await sent).toBe('1')
  })

  test('resolves after five seconds when the log has stored its entry, but cannot be read', async () => {
    const { log, pool, client, stream } = await open()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const sent = pool.send('ada', 'stored')
    stream.send('direct')
    expect(await isSettled(sent)).toBe(false)
    log.sink.state(false)
    vi.advanceTimersByTime(3000)
    const later = pool.send('ada', 'stored later')
    expect(await isSettled(later)).toBe(false)
    vi.advanceTimersByTime(1999)
    expect(await isSettled(sent)).toBe(false)
    vi.advanceTimersByTime(1)
    expect(await sent).toBe('1')
    // The direct send that waited for it goes out too.
    await client.until(({ data }) => data.includes('direct'))
    expect(await isSettled(later)).toBe(false)
    vi.advanceTimersByTime(5000)
    expect(await later).toBe('2')
  })

  test('waits for its own entry when the window has only passed the one before it', async () => {
    const { log, pool } = await open()
    const [first, second] = [pool.send('ada', 'one'), pool.send('ada', 'two')]
    expect(await isSettled(first)).toBe(false)
    // The engine stored a repetition of the first, so the nonce that arrives is not the one that is awaited.
    log.sink.append([{ id: '1', nonce: 'other', target: '@ada', frame: 'data: one\n\n' }])
    expect(await first).toBe('1')
    expect(await isSettled(second)).toBe(false)
    log.seen = 1
    log.deliver()
    expect(await second).toBe('2')
  })

  test('that is retried twice at once resolves both times when the pool closes', async () => {
    const { log, pool } = await open()
    log.beforeAppend = async () => {
      throw new SseError('ERR_SSE_LOG_UNCERTAIN', 'lost')
    }
    const error = await pool.send('ada', 'x').catch(error => error)
    log.beforeAppend = async () => {}
    const { retry } = error as SseError
    const both = Promise.all([retry?.(), retry?.()])
    await pool.close()
    expect(await isSettled(both)).toBe(true)
    expect(await both).toEqual(['1', '2'])
  })

  test('of an entry that is stored twice resolves, though the second never arrives', async () => {
    const { log, pool } = await open()
    let attempts = 0
    log.beforeAppend = async () => {
      attempts += 1
      if (attempts === 2) throw new SseError('ERR_SSE_LOG_UNCERTAIN', 'lost')
    }
    await Promise.all([pool.send('ada', 'first'), turn().then(() => log.deliver())])
    const error = await pool.send('ada', 'again').catch(error => error)
    log.store({ nonce: 'other', target: '@ada', frame: 'data: again\n\n' })
    const retried = (error as SseError).retry?.()
    await turn()
    log.deliver()
    expect(await retried).toBe('3')
  })
})

describe('a direct send that follows a send', () => {
  test('goes out when that send fails', async () => {
    const { log, pool, client, stream } = await open()
    const answer = deferred()
    log.beforeAppend = () => answer.promise
    const sent = pool.send('ada', 'not stored')
    stream.send('direct')
    await turn()
    expect(client.data).toEqual([])
    answer.reject(new SseError('ERR_SSE_LOG_DOWN', 'down'))
    await client.until(({ data }) => data.includes('direct'))
    await expect(sent).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })

  test('waits for a send that was begun after an earlier direct send, and lets that go first', async () => {
    const { log, pool, client, stream } = await open()
    const sends = [pool.send('ada', 'pooled 1')]
    stream.send('direct 1')
    sends.push(pool.send('ada', 'pooled 2'))
    stream.send('direct 2')
    await turn()
    log.sink.append(log.stored.slice(0, 1))
    await client.until(({ data }) => data.includes('direct 1'))
    log.sink.append(log.stored.slice(1))
    await client.until(({ data }) => data.includes('direct 2'))
    await Promise.all(sends)
    expect(client.data).toEqual(['pooled 1', 'direct 1', 'pooled 2', 'direct 2'])
  })

  test('is dropped with the stream when the client leaves meanwhile', async () => {
    const { log, pool, client, stream } = await open()
    const sent = pool.send('ada', 'hello')
    stream.send('direct')
    const closed = stream.closed
    client.close()
    expect(await closed).toBe('client')
    log.deliver()
    await sent
    expect(stream.send('too late')).toBe(false)
  })

  test('comes before the end that follows it, and that before a removal', async () => {
    const { log, pool, client, stream } = await open()
    const sent = pool.send('ada', 'pool')
    stream.send('direct')
    stream.end('bye')
    await turn()
    expect(client.data).toEqual([])
    log.deliver()
    await client.ended
    await sent
    expect(client.data).toEqual(['pool', 'direct', 'bye'])
    expect(pool.stats().closed.end).toBe(1)
  })

  test('comes after it when the log opens only after both', async () => {
    const log = new FakeLog()
    log.boots = false
    log.isLive = false
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool, replay: 'all' })
    const client = await connect(origin, '/?id=ada')
    void pool.broadcast('pool')
    streamOf(pool, 'ada').face.send('direct')
    await turn()
    log.boot()
    await client.until(({ data }) => data.length === 2)
    expect(client.data).toEqual(['pool', 'direct'])
  })

  test('does not wait for sends to others', async () => {
    const { pool, client, stream } = await open()
    void pool.send('bob', 'for bob').catch(() => {})
    void pool
      .channel('news')
      .send('for the channel')
      .catch(() => {})
    stream.send('direct')
    await client.until(({ data }) => data.includes('direct'))
    expect(client.data).toEqual(['direct'])
  })

  test('gives up its order before it closes the stream, when too much waits for the engine', async () => {
    const log = new FakeLog()
    log.isLive = false
    const pool = testPool({ log, maxBufferedBytes: 1000 })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    const stream = streamOf(pool, 'ada').face
    void pool.send('ada', 'on its way')
    for (let i = 0; i < 20; i++) stream.send(`${i}`.padEnd(100, '.'))
    await client.until(({ data }) => data.length >= 9)
    log.deliver()
    await client.until(({ data }) => data.length === 21)
    expect(stream.isOpen).toBe(true)
    const numbers = client.data.map(data => Number.parseInt(data, 10)).filter(Number.isFinite)
    expect(numbers).toEqual(Array.from({ length: 20 }, (_, i) => i))
  })

  test('never closes the stream as slow, however much waits for an engine that hangs', async () => {
    const { log, pool, client, stream } = await open()
    const closes = watchCloses(pool)
    log.beforeAppend = () => new Promise(() => {})
    void pool.broadcast('on its way')
    for (let i = 0; i < 40; i++) {
      stream.send(`${i}`.padEnd(32_000, '.'))
      await turn()
    }
    stream.end()
    await pool.close()
    await client.ended
    expect(closes.reasons).toEqual(['end'])
    const numbers = client.data.map(data => Number.parseInt(data, 10)).filter(Number.isFinite)
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, i) => i))
  })

  test('is joined with those before it, whatever is in flight, so that 20,000 wait as four', async () => {
    const { pool, stream } = await open()
    const waitFor = vi.spyOn(hubOf(pool).inFlight, 'waitFor')
    for (let i = 0; i < 500; i++) void pool.broadcast('x')
    // 220 KB in all; one write is joined from up to 64 KiB.
    for (let i = 0; i < 20_000; i++) stream.send('abc')
    expect(waitFor).toHaveBeenCalledTimes(4)
  })

  test('does not keep its stream in memory once that has closed and the send has settled', async () => {
    const log = new FakeLog()
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    const answer = deferred()
    log.beforeAppend = () => answer.promise
    const sent = pool.broadcast('on its way')
    // In a function of its own, so that no local variable keeps the stream.
    const send = () => {
      const stream = streamOf(pool, 'ada')
      stream.face.send('direct')
      return new WeakRef(stream)
    }
    const stream = send()
    client.close()
    while (pool.connections > 0) await turn()
    answer.resolve()
    await sent
    expect(await isCollected(stream)).toBe(true)
  })

  test('costs no object for each of many, though several sends are in flight', async () => {
    const { log, pool, client, stream } = await open()
    const sends = Array.from({ length: 500 }, () => pool.broadcast('x'))
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 20_000; i++) stream.comment()
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(20_000_000)
    stream.send('last')
    await turn()
    log.deliver()
    await Promise.all(sends)
    await client.until(({ data }) => data.includes('last'))
    expect(client.data.at(-1)).toBe('last')
  })
})

describe('a log that hangs (fault 116)', () => {
  test('is sent so many events and no more, and takes sends again once it answers', async () => {
    const { log, pool } = await open()
    const answer = deferred()
    log.isLive = true
    log.beforeAppend = () => answer.promise
    const sends = Array.from({ length: 20_100 }, () => pool.broadcast('x'))
    const refused = sends.slice(20_000)
    for (const send of refused) {
      await expect(send).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    }
    await expect(refused[0]).rejects.toThrow('20000 sends')
    answer.resolve()
    await Promise.all(sends.slice(0, 20_000))
    await pool.broadcast('y')
  })

  test('holds so many bytes and no more, whatever their number', async () => {
    const { log, pool } = await open()
    const answer = deferred()
    log.beforeAppend = () => answer.promise
    const sends = Array.from({ length: 40 }, () => pool.broadcast('x'.repeat(1_000_000)))
    const results = Promise.allSettled(sends)
    log.isLive = true
    answer.resolve()
    const stored = (await results).filter(({ status }) => status === 'fulfilled').length
    expect(stored).toBe(33)
  })
})
