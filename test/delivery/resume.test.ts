import { setImmediate as turn } from 'node:timers/promises'
import { type ClientPool, SseError } from 'koa-sse-pool'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { MESSAGE } from '../../src/log/messages.js'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

async function serve(log: FakeLog, options = {}) {
  const pool = testPool({ log, ...options })
  const { origin } = await serveStreams({ pool })
  return { pool, origin }
}

/** Collects the pool's errors. Without a listener the pool would print a warning for each. */
function errorsOf(pool: ClientPool): Error[] {
  const errors: Error[] = []
  pool.on('error', error => errors.push(error))
  return errors
}

describe('a client whose cursor this process does not know yet', () => {
  test('is parked until the window has caught up, then resumes without a gap', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    await pool.broadcast('one')
    log.isLive = false
    const id = log.store('two')
    log.store('three')
    const client = await connect(origin, '/?id=ada', resumeWith(id))
    await turn()
    expect(pool.stats().parked).toBe(1)
    log.deliver()
    await client.until(({ data }) => data.includes('three'))
    expect(client.data).toEqual(['three'])
    expect(pool.stats()).toMatchObject({ parked: 0, gaps: 0, replays: 1 })
    expect(log.barriers).toBe(1)
  })

  test('causes no error when the pool closes while the log is asked', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    const errors = errorsOf(pool)
    await pool.broadcast('one')
    const barrier = deferred()
    log.beforeBarrier = async () => {
      await barrier.promise
      throw new SseError('ERR_SSE_LOG_DOWN', 'the log is closed')
    }
    await connect(origin, '/?id=ada', resumeWith('a-99'))
    await pool.close()
    barrier.resolve()
    await turn()
    expect(errors).toEqual([])
    expect(log.barriers).toBe(1)
  })

  test('gets a gap once the window has caught up with the log and still lacks the cursor', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    log.isLive = false
    const tail = log.store('one')
    const client = await connect(origin, '/?id=ada', resumeWith('elsewhere'))
    await turn()
    expect(pool.stats().parked).toBe(1)
    log.deliver()
    expect(await client.event('sse.gap')).toMatchObject({ id: tail, data: '{"reason":"unknown"}' })
    expect(client.data).toEqual([])
  })

  test('gets heartbeats without an id, and direct sends, while it is parked', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const log = new FakeLog('a')
    const barrier = deferred()
    log.beforeBarrier = () => barrier.promise
    const { pool, origin } = await serve(log, { pingInterval: 1000 })
    await pool.broadcast('one')
    const client = await connect(origin, '/?id=ada', resumeWith('elsewhere'))
    const stream = streamOf(pool, 'ada')
    stream.face.send('direct')
    await pool.broadcast('two')
    await client.until(({ data }) => data.includes('direct'))
    vi.advanceTimersByTime(1000)
    await client.until(({ events }) => events.at(-1)?.event === 'sse.cursor')
    expect(client.lastEventId).toBe('')
    expect(client.data).toEqual(['direct'])
    barrier.resolve()
    await client.event('sse.gap')
    await pool.broadcast('three')
    await client.until(({ data }) => data.includes('three'))
    expect(client.data).toEqual(['direct', 'three'])
  })

  test('is forgotten if it disconnects before that is decided', async () => {
    const log = new FakeLog('a')
    const barrier = deferred()
    log.beforeBarrier = () => barrier.promise
    const { pool, origin } = await serve(log)
    const closed = new Promise(resolve => pool.once('close', resolve))
    const client = await connect(origin, '/?id=ada', resumeWith('elsewhere'))
    client.close()
    await closed
    barrier.resolve()
    await turn()
    expect(pool.stats()).toMatchObject({ streams: 0, parked: 0, gaps: 0 })
  })

  test('shares one question to the log with all clients that arrive meanwhile (fault 18)', async () => {
    const log = new FakeLog('a')
    const barrier = deferred()
    log.beforeBarrier = () => barrier.promise
    const { pool, origin } = await serve(log)
    const clients = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        connect(origin, `/?id=${i}`, resumeWith(`garbage-${i}`)),
      ),
    )
    expect(pool.stats().parked).toBe(50)
    barrier.resolve()
    for (const client of clients) await client.event('sse.gap')
    // One for the first client, one for all that arrived while that was pending.
    expect(log.barriers).toBeLessThanOrEqual(2)
  })
})

describe('a log that', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  test('is out of reach decides nothing and is asked again once it is back', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    const errors = errorsOf(pool)
    const id = await pool.broadcast('one')
    log.isLive = false
    const newer = log.store('two')
    log.beforeBarrier = () => Promise.reject(new SseError('ERR_SSE_LOG_DOWN', 'down'))
    log.sink.state(false)
    const known = await connect(origin, '/?id=ada', resumeWith(id))
    const unknown = await connect(origin, '/?id=bob', resumeWith(newer))
    await turn()
    expect(pool.stats()).toMatchObject({ parked: 1, log: 'down', replays: 1 })
    expect(log.barriers).toBe(0)

    log.beforeBarrier = async () => {}
    log.sink.state(true)
    log.deliver()
    await known.until(({ data }) => data.includes('two'))
    log.store('three')
    log.deliver()
    await unknown.until(({ data }) => data.includes('three'))
    expect(unknown.data).toEqual(['three'])
    expect(pool.stats()).toMatchObject({ parked: 0, log: 'up', gaps: 0 })
    expect(errors).toEqual([])
  })

  test('fails to answer is asked again at the next heartbeat', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const log = new FakeLog('a')
    log.beforeBarrier = () => Promise.reject(new Error('timed out'))
    const { pool, origin } = await serve(log, { pingInterval: 1000 })
    const errors = errorsOf(pool)
    const client = await connect(origin, '/?id=ada', resumeWith('elsewhere'))
    await turn()
    expect(pool.stats().parked).toBe(1)
    expect(errors.map(({ message }) => message)).toEqual(['timed out'])
    log.beforeBarrier = async () => {}
    vi.advanceTimersByTime(1000)
    await client.event('sse.gap')
    expect(log.barriers).toBe(2)
  })

  test('is absent at the start lets the pool serve and park clients until it is there (fault 32)', async () => {
    const log = new FakeLog('a')
    log.boots = false
    log.beforeAppend = () => Promise.reject(new SseError('ERR_SSE_LOG_DOWN', 'down'))
    log.store('one')
    const last = log.store('two')
    log.store('three')
    const { pool, origin } = await serve(log)
    const errors = errorsOf(pool)
    log.sink.state(false)

    const newcomer = await connect(origin, '/?id=ada')
    const back = await connect(origin, '/?id=bob', resumeWith(last))
    const stream = streamOf(pool, 'ada')
    stream.face.send('direct')
    await newcomer.until(({ data }) => data.includes('direct'))
    await expect(pool.broadcast('too early')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    expect(pool.stats()).toMatchObject({ parked: 2, log: 'down', streams: 2 })

    log.beforeAppend = async () => {}
    log.boot()
    log.sink.state(true)
    await back.until(({ data }) => data.includes('three'))
    await pool.broadcast('four')
    for (const client of [newcomer, back]) await client.until(({ data }) => data.includes('four'))
    expect(newcomer.data).toEqual(['direct', 'four'])
    expect(back.data).toEqual(['three', 'four'])
    // Which of the entries were sent since the newcomer opened cannot be known.
    expect((await newcomer.event('sse.gap')).data).toBe('{"reason":"unknown"}')
    expect(pool.stats()).toMatchObject({ parked: 0, log: 'up', gaps: 1 })
    expect(errors).toHaveLength(1)
  })

  test('cannot be opened at all is the pool’s error, and direct sends still arrive', async () => {
    const log = new FakeLog('a')
    log.boots = false
    const { pool, origin } = await serve(log)
    const errors = errorsOf(pool)
    log.failBoot(new Error('no such host'))
    const client = await connect(origin, '/?id=ada')
    const stream = streamOf(pool, 'ada')
    stream.face.send('direct')
    await client.until(({ data }) => data.includes('direct'))
    expect(errors.map(({ message }) => message)).toEqual(['no such host'])
    expect(pool.stats().log).toBe('down')
  })

  test('reports a failure of its own, which is the pool’s error and changes nothing else', async () => {
    const log = new FakeLog('a')
    const { pool } = await serve(log)
    const errors = errorsOf(pool)
    const failure = new Error('cannot read an entry')
    log.sink.error(failure)
    expect(errors).toEqual([failure])
    expect(pool.stats().log).toBe('up')
  })

  test('refuses an entry rejects the send and is the pool’s error, and no rejection is unhandled', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    onTestFinished(() => {
      process.off('unhandledRejection', unhandled)
    })
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    const errors = errorsOf(pool)
    const client = await connect(origin, '/?id=ada')
    log.beforeAppend = () => Promise.reject(new SseError('ERR_SSE_LOG_UNCERTAIN', 'lost'))
    await expect(pool.send('ada', 'x')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    void pool.broadcast('nobody awaits this')
    void pool.channel('news').send('nor this')
    void pool.remove('ada')
    await turn()
    await turn()
    expect(errors).toHaveLength(4)
    expect(unhandled).not.toHaveBeenCalled()
    log.beforeAppend = async () => {}
    await pool.broadcast('after')
    await client.until(({ data }) => data.includes('after'))
    expect(client.data).toEqual(['after'])
  })
})

describe('a reset of the window', () => {
  for (const reason of ['trimmed', 'replaced'] as const) {
    test(`as ${reason} is a gap for readers whose place is gone and nothing for the others`, async () => {
      const log = new FakeLog('a')
      const { pool, origin } = await serve(log)
      await pool.broadcast('one')
      const behind = await connect(origin, '/?id=ada')
      await behind.until(({ lastEventId }) => lastEventId === 'a-1')
      log.isLive = false
      for (const data of ['two', 'three', 'four']) log.store(data)
      log.seen = log.stored.length
      // The place of `ada` is gone; a client with the cursor `a-3` still finds its place.
      log.sink.reset(log.stored.slice(2), reason)
      expect(await behind.event('sse.gap')).toMatchObject({
        id: 'a-4',
        data: `{"reason":"${reason}"}`,
      })
      const back = await connect(origin, '/?id=bob', resumeWith('a-3'))
      await back.until(({ data }) => data.includes('four'))
      log.isLive = true
      await pool.broadcast('five')
      for (const client of [behind, back]) await client.until(({ data }) => data.includes('five'))
      expect(behind.data).toEqual(['five'])
      expect(back.data).toEqual(['four', 'five'])
      expect(pool.stats().gaps).toBe(1)
    })
  }

  test('that still has every reader’s place delivers what was missed exactly once', async () => {
    const log = new FakeLog('a')
    // The new window is larger than this process keeps, so part of it is evicted at once.
    const { pool, origin } = await serve(log, { window: { events: 5 } })
    const client = await connect(origin, '/?id=ada')
    for (let i = 1; i <= 8; i++) await pool.broadcast(String(i))
    await client.until(({ data }) => data.includes('8'))
    log.store('9')
    log.reset('trimmed')
    await client.until(({ data }) => data.includes('9'))
    expect(client.data).toEqual(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('that contains only messages between processes still gives a cursor', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    await pool.broadcast('one')
    const client = await connect(origin, '/?id=ada')
    await client.until(({ lastEventId }) => lastEventId === 'a-1')
    log.epoch = 'b'
    log.stored = []
    for (const frame of ['{}', '{}']) log.store({ nonce: 'n', target: MESSAGE, frame })
    log.reset('replaced')
    const { id } = await client.event('sse.gap')
    // It is the same in every process, however many of these messages each has received.
    expect(id).toBe('b-1')
    client.close()
    await pool.broadcast('two')
    const back = await connect(origin, '/?id=ada', resumeWith(String(id)))
    await back.until(({ data }) => data.includes('two'))
    expect(pool.stats().gaps).toBe(1)
  })

  test('to a shorter log leaves no client parked that waited for the old one', async () => {
    const log = new FakeLog('a')
    const { pool, origin } = await serve(log)
    await pool.broadcast('one')
    log.isLive = false
    log.store('two')
    const client = await connect(origin, '/?id=ada', resumeWith('a-2'))
    await turn()
    expect(pool.stats().parked).toBe(1)
    log.epoch = 'b'
    log.stored = []
    log.reset('replaced')
    await client.event('sse.gap')
    log.isLive = true
    await pool.broadcast('new one')
    await client.until(({ data }) => data.includes('new one'))
    expect(client.lastEventId).toBe('b-1')
    expect(pool.stats().parked).toBe(0)
  })
})

describe('a removed client', () => {
  test('that resumes from before its removal is ended, and may return without a cursor', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const id = await pool.send('ada', 'one')
    await pool.send('ada', 'two')
    await pool.remove('ada', { why: 'banned' })
    await pool.send('ada', 'three')
    const old = await connect(origin, '/?id=ada', resumeWith(id))
    expect(await old.ended).toBe(true)
    expect(old.events.map(({ event, id, data }) => [event, event && id, data])).toEqual([
      [undefined, undefined, 'two'],
      ['close', 'sse.end', '{"why":"banned"}'],
    ])
    const again = await connect(origin, '/?id=ada', resumeWith(old.lastEventId))
    expect(again.status).toBe(204)

    const newcomer = await connect(origin, '/?id=ada')
    await pool.send('ada', 'four')
    await newcomer.until(({ data }) => data.includes('four'))
    expect(newcomer.data).toEqual(['four'])
    expect(pool.stats().closed.removed).toBe(1)
  })

  test('whose stream is open gets what was sent before the removal, then the end', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const tabs = await Promise.all([1, 2].map(() => connect(origin, '/?id=ada')))
    void pool.send('ada', 'before')
    void pool.remove('ada')
    void pool.send('ada', 'after')
    for (const tab of tabs) {
      expect(await tab.ended).toBe(true)
      expect(tab.messages.map(({ event, data }) => event ?? data)).toEqual(['before', 'close'])
      expect(tab.lastEventId).toBe('sse.end')
    }
    expect(pool.size).toBe(0)
  })

  test('is ended too if its cursor is so old that it has left the window', async () => {
    const pool = testPool({ window: { events: 5 } })
    const { origin } = await serveStreams({ pool })
    const id = await pool.send('ada', 'one')
    for (let i = 0; i < 5; i++) await pool.broadcast('filler')
    await pool.remove('ada')
    const old = await connect(origin, '/?id=ada', resumeWith(id))
    await pool.broadcast('live')
    expect(await old.ended).toBe(true)
    expect(old.lastEventId).toBe('sse.end')
  })
})

describe('a client that returned after its removal', () => {
  /** Lets the client fall behind until it gets a gap, which must not bring the removal back. */
  async function lag(pool: ClientPool, client: TestClient) {
    const stream = streamOf(pool, 'ada')
    client.response.pause()
    while (!stream.isBlocked) {
      stream.face.send('filler'.padEnd(65_536, '.'))
      await turn()
    }
    for (let i = 0; i < 20; i++) {
      await pool.send('ada', 'missed')
      await turn()
    }
    client.response.resume()
    await client.until(({ events }) => events.some(({ data }) => data === '{"reason":"lagged"}'))
    await pool.send('ada', 'live')
    await client.until(({ data }) => data.includes('live'))
  }

  const REMOVAL = { nonce: 'n', target: '-ada', frame: 'data: bye\n\n' }

  test('stays when the log opens with that removal in it', async () => {
    const log = new FakeLog('a')
    log.boots = false
    log.store(REMOVAL)
    const { pool, origin } = await serve(log, { window: { events: 5 } })
    const client = await connect(origin, '/?id=ada')
    log.boot()
    await lag(pool, client)
  })

  test('stays when the window is filled again', async () => {
    const log = new FakeLog('a')
    log.store(REMOVAL)
    const { pool, origin } = await serve(log, { window: { events: 5 } })
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('one')
    log.reset('trimmed')
    await lag(pool, client)
  })

  test('is ended by the next removal', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await pool.remove('ada')
    const client = await connect(origin, '/?id=ada')
    await pool.remove('ada')
    expect(await client.ended).toBe(true)
  })
})

describe('a client that was cut off before the first event was ever sent', () => {
  test('misses nothing', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    await client.event('sse.cursor')
    client.close()
    await client.ended
    await pool.send('ada', 'first of all')
    const back = await connect(origin, '/?id=ada', resumeWith(client.lastEventId))
    await back.until(({ data }) => data.includes('first of all'))
    expect(pool.stats()).toMatchObject({ gaps: 0, replays: 1 })
  })

  test('misses nothing on a log that was not open yet when it came', async () => {
    const log = new FakeLog('a')
    log.boots = false
    log.store('long ago')
    const { pool, origin } = await serve(log)
    const client = await connect(origin, '/?id=ada')
    log.boot()
    await client.until(({ lastEventId }) => lastEventId === 'a-1')
    client.close()
    await client.ended
    await pool.send('ada', 'first of all')
    const back = await connect(origin, '/?id=ada', resumeWith(client.lastEventId))
    await back.until(({ data }) => data.includes('first of all'))
    // Its first stream had one, because entries may have been sent before the log was open.
    expect(client.events.map(({ event }) => event)).toEqual(['sse.gap'])
    expect(back.events.some(({ event }) => event === 'sse.gap')).toBe(false)
  })
})

describe('a new stream', () => {
  const history = async (pool: ClientPool) => {
    await pool.broadcast('1')
    await pool.broadcast({ data: '2', key: 'a' })
    await pool.broadcast({ data: '3', key: 'a' })
    await pool.send('bob', 'not for ada')
    await pool.send('ada', '4')
    await pool.remove('ada')
    await pool.send('ada', '5')
    await pool.broadcast('6')
  }

  for (const [replay, expected] of [
    ['missed', ['7', '8']],
    ['latest', ['3', '5', '6', '7', '8']],
    ['all', ['1', '3', '4', '5', '6', '7', '8']],
  ] as const) {
    test(`gets what replay: '${replay}' says, then live events`, async () => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool, replay })
      await history(pool)
      const client = await connect(origin, '/?id=ada')
      for (const data of ['7', '8']) await pool.broadcast(data)
      await client.until(({ data }) => data.includes('8'))
      expect(client.data).toEqual(expected)
    })
  }

  test('with a cursor resumes there, whatever replay says', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, replay: 'all' })
    await pool.broadcast('1')
    const id = await pool.broadcast('2')
    await pool.broadcast('3')
    const client = await connect(origin, '/?id=ada', resumeWith(id))
    await client.until(({ data }) => data.includes('3'))
    expect(client.data).toEqual(['3'])
  })
})
