/** What a reader gets when things coincide: an engine's start, bursts, exceptions, snapshots, slow clients. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, PollAnswer, PoolEntry } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

/** Fills the socket of a client that has stopped reading. */
async function block(pool: ClientPool, client: TestClient) {
  const stream = streamOf(pool, 'ada')
  client.response.pause()
  while (!stream.isBlocked) {
    await pool.send('ada', 'filler'.padEnd(65_536, '.'))
    await turn()
  }
  return stream
}

async function take(events: AsyncGenerator<PoolEntry>, count: number): Promise<string[]> {
  const taken: string[] = []
  while (taken.length < count) taken.push((await events.next()).value.data)
  return taken
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}`)
const gap = (reason: string) => JSON.stringify({ reason })

describe('a reader that is there before the engine has filled the window (fault 61)', () => {
  test('is told of a gap when entries may have been sent meanwhile, its own process’s included', async () => {
    const log = new FakeLog()
    log.boots = false
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    const events = pool.events()
    log.store('by another process')
    log.isLive = false
    const sent = pool.broadcast('by this process')
    await turn()
    log.boot()
    await sent
    expect((await client.event('sse.gap')).data).toBe(gap('unknown'))
    expect(await take(events, 1)).toEqual([gap('unknown')])
    log.isLive = true
    await pool.broadcast('live')
    await client.until(({ data }) => data.includes('live'))
    expect(client.data).toEqual(['live'])
    expect(await take(events, 1)).toEqual(['live'])
  })

  test('gets everything with replay all, and no gap', async () => {
    const log = new FakeLog()
    log.boots = false
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool, replay: 'all' })
    const client = await connect(origin, '/?id=ada')
    const events = pool.events({}, { replay: 'all' })
    log.store('meanwhile')
    log.boot()
    await client.until(({ data }) => data.includes('meanwhile'))
    expect(await take(events, 1)).toEqual(['meanwhile'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('has no gap where the log holds nothing', async () => {
    const log = new FakeLog()
    log.boots = false
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    log.boot()
    await pool.broadcast('first')
    await client.until(({ data }) => data.includes('first'))
    expect(pool.stats().gaps).toBe(0)
  })
})

describe('a burst of one turn that is larger than the window (fault 62)', () => {
  test('reaches an iteration that waits for it', async () => {
    const pool = testPool({ window: { events: 10 } })
    const events = pool.events({ id: 'ada' })
    const taken = take(events, 500)
    await turn()
    for (const data of numbers(500)) void pool.send('ada', data)
    expect(await taken).toEqual(numbers(500))
    expect(pool.stats().gaps).toBe(0)
  })

  test('reaches a long poll that waits for it', async () => {
    const pool = testPool({ window: { events: 10 } })
    const { origin } = await serveStreams({ pool, longPoll: true })
    const poll = async (cursor: string) => {
      const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
      return (await (await fetch(`${origin}/?id=ada`, { headers })).json()) as PollAnswer
    }
    const { cursor } = await poll('')
    const first = poll(cursor)
    while (pool.stats().polls === 0) await turn()
    for (const data of numbers(500)) void pool.send('ada', data)
    const got = (await first).events
    while (got.length < 500) got.push(...(await poll(got.at(-1)?.id as string)).events)
    expect(got.map(({ data }) => data)).toEqual(numbers(500))
  })

  test('is a gap to an iteration that is busy, which costs no memory meanwhile', async () => {
    const pool = testPool({ window: { events: 10 } })
    const events = pool.events({ id: 'ada' })
    await pool.send('ada', 'first')
    expect(await take(events, 1)).toEqual(['first'])
    for (const data of numbers(500)) void pool.send('ada', data)
    expect(await take(events, 1)).toEqual([gap('lagged')])
  })
})

describe('a blocked reader has lost nothing (fault 63)', () => {
  async function open() {
    // The limit is so low that a blocked stream takes nothing more.
    const pool = testPool({ window: { events: 20 }, maxBufferedBytes: 1 })
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    await client.event('sse.cursor')
    await block(pool, client)
    const finish = async () => {
      client.response.resume()
      await pool.send('ada', 'live')
      await client.until(({ data }) => data.includes('live'))
      return client.messages.map(({ data }) => data).filter(data => !data.startsWith('filler'))
    }
    return { pool, client, finish }
  }

  test('when all the entries that were evicted except it', async () => {
    const { pool, finish } = await open()
    for (let i = 0; i < 50; i++) await pool.broadcast(`${i}`, { except: 'ada' })
    for (let i = 0; i < 50; i++) await pool.send('bob', 'not for her')
    expect(await finish()).toEqual(['live'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('when what was superseded is superseded by an entry that excepts another client', async () => {
    const { pool, finish } = await open()
    await pool.broadcast({ data: 'old', key: 'k' })
    for (let i = 0; i < 15; i++) await pool.send('bob', 'not for her')
    await pool.broadcast({ data: 'new', key: 'k' }, { except: 'bob' })
    for (let i = 0; i < 15; i++) await pool.send('bob', 'not for her')
    expect(await finish()).toEqual(['new', 'live'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('but has when only the newer entry excepts it', async () => {
    const { pool, client } = await open()
    await pool.broadcast({ data: 'old', key: 'k' })
    await pool.broadcast({ data: 'new', key: 'k' }, { except: 'ada' })
    for (let i = 0; i < 50; i++) await pool.send('bob', 'not for her')
    client.response.resume()
    expect((await client.event('sse.gap')).data).toBe(gap('lagged'))
  })

  test('but has when an entry that excepts it comes after one that does not', async () => {
    const { pool, client } = await open()
    await pool.broadcast('for ada too')
    for (let i = 0; i < 50; i++) await pool.broadcast(`${i}`, { except: 'ada' })
    client.response.resume()
    expect((await client.event('sse.gap')).data).toBe(gap('lagged'))
  })

  test('also when a thousand clients are excepted one by one, though another may get a gap then', async () => {
    const { pool, client } = await open()
    for (let i = 0; i < 2000; i++) {
      await pool.broadcast({ data: 'typing', key: 'typing' }, { except: `client-${i}` })
    }
    for (let i = 0; i < 50; i++) await pool.send('bob', 'not for her')
    client.response.resume()
    // Which of the first thousand get an unnecessary gap is not specified; the last one really lost it.
    expect((await client.event('sse.gap')).data).toBe(gap('lagged'))
  })
})

describe('history that leaves the window before the stream opens (fault 64)', () => {
  test.each<['latest' | 'all', string[], string[]]>([
    ['latest', ['104'], []],
    // More had left the window before the client came, so a gap precedes the rest, but does not skip it.
    ['all', numbers(105).slice(95), ['trimmed']],
  ])('is no lag with replay %s', async (replay, expected, reasons) => {
    const pool = testPool({ window: { events: 10 } })
    const gaps: string[] = []
    pool.on('gap', (_, reason) => gaps.push(reason))
    for (const data of numbers(100)) await pool.broadcast(data)
    const handled = deferred()
    const { origin } = await serveStreams({ pool, replay }, () => handled.promise)
    const connecting = connect(origin, '/?id=ada')
    while (pool.connections === 0) await turn()
    // They arrive like this while a handler waits for a database.
    for (const data of numbers(105).slice(100)) await pool.broadcast(data)
    handled.resolve()
    const client = await connecting
    await client.until(({ data }) => data.includes('104'))
    expect(gaps).toEqual(reasons)
    const live = replay === 'latest' ? numbers(105).slice(99) : expected
    expect(client.data).toEqual(live)
  })
})

test('a million small direct sends to a client that does not read stay bounded (fault 75)', async () => {
  const pool = testPool({ maxBufferedBytes: 64 * 1024 * 1024, stallTimeout: 600_000 })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  const stream = await block(pool, client)
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 1_000_000; i++) stream.face.comment()
  // Two bytes each on the wire, and no object for each.
  expect(stream.bufferedBytes).toBeGreaterThan(2_000_000)
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(200_000_000)
  stream.face.send('last')
  client.response.resume()
  await client.until(({ data }) => data.includes('last'))
  expect(stream.isOpen).toBe(true)
})

describe('a client that is cut off in the middle of a replayed history', () => {
  const cut = (origin: string, lastEventId: string, path = '/?id=ada') =>
    connect(origin, path, { headers: { 'Last-Event-ID': lastEventId } })

  /** The ids of what a client got, in the order in which they came. */
  const ids = (client: TestClient) => client.messages.map(({ id }) => id as string)

  test('goes on behind a removal of its id that lies in the history (fault 65)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, replay: 'all', channels: () => ['room'] })
    await pool.channel('room').send('1')
    await pool.channel('room').send('2')
    await pool.remove('ada')
    await pool.channel('room').send('3')
    await pool.channel('room').send('4')
    const whole = await connect(origin, '/?id=ada')
    await whole.until(({ data }) => data.length === 4)
    expect(whole.data).toEqual(['1', '2', '3', '4'])
    for (const [index, id] of ids(whole).entries()) {
      const back = await cut(origin, id)
      await pool.send('ada', 'live')
      await back.until(({ data }) => data.includes('live'))
      expect(back.data.filter(data => data !== 'live')).toEqual(
        ['1', '2', '3', '4'].slice(index + 1),
      )
      back.close()
    }
    // Once it has reached the end of the history, a removal ends it as ever.
    const back = await cut(origin, whole.lastEventId)
    await pool.remove('ada')
    expect(await back.ended).toBe(true)
    expect(back.lastEventId).toBe('sse.end')
  })

  test('is ended by a removal that came after it opened, wherever it was', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, replay: 'all' })
    await pool.send('ada', '1')
    await pool.remove('ada')
    await pool.send('ada', '2')
    const whole = await connect(origin, '/?id=ada')
    await whole.until(({ data }) => data.length === 2)
    await pool.remove('ada')
    for (const id of ids(whole)) {
      const back = await cut(origin, id)
      expect(await back.ended).toBe(true)
      expect(back.lastEventId).toBe('sse.end')
    }
  })

  test('gets the latest of each key only, also over several long polls (fault 113)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, longPoll: true, replay: 'latest' })
    // Larger than one answer, in the middle of fifty that are not the latest.
    await pool.broadcast({ data: 'a'.repeat(300_000), key: 'a' })
    for (const data of numbers(50)) await pool.broadcast(data)
    await pool.broadcast({ data: 'b', key: 'b' })
    const got: PoolEntry[] = []
    let cursor = ''
    for (let polls = 0; polls < 5 && got.length < 3; polls++) {
      const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
      const answer = (await (await fetch(`${origin}/?id=ada`, { headers })).json()) as PollAnswer
      got.push(...answer.events)
      cursor = answer.cursor
    }
    expect(got.map(({ data }) => data.slice(0, 2))).toEqual(['aa', '49', 'b'])
  })

  test.each(['e1.', 'e1.e9', '.e1', '..', 'e1.e1.e1.e1', `${'e'.repeat(64)}.${'e'.repeat(64)}`])(
    'gets a gap for the made-up cursor %s',
    async cursor => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool })
      await pool.broadcast('1')
      const client = await cut(origin, cursor)
      expect((await client.event('sse.gap')).data).toBe(gap('unknown'))
    },
  )
})

describe('a blocked stream that leaves a channel (fault 112)', () => {
  async function open() {
    const pool = testPool({ maxBufferedBytes: 1 })
    const { origin } = await serveStreams({ pool, channels: () => ['news'] })
    const client = await connect(origin, '/?id=ada')
    await client.event('sse.cursor')
    const stream = await block(pool, client)
    const finish = async () => {
      await pool.send('ada', 'live')
      client.response.resume()
      await client.until(({ data }) => data.includes('live'))
      return client.data.filter(data => !data.startsWith('filler'))
    }
    return { pool, stream, finish }
  }

  test('gets what was sent to the channel before, and nothing that was sent after', async () => {
    const { pool, stream, finish } = await open()
    await pool.channel('news').send('before')
    stream.face.leave('news')
    expect(stream.face.channels).toEqual([])
    expect(pool.channel('news').size).toBe(0)
    await pool.channel('news').send('after')
    expect(await finish()).toEqual(['before', 'live'])
    await pool.channel('news').send('long after')
    expect(stream.targets.map(({ name }) => name)).toEqual(['*', '@ada'])
  })

  test('gets each entry once when it joins again before it has read to the end', async () => {
    const { pool, stream, finish } = await open()
    await pool.channel('news').send('before')
    stream.face.leave('news').join('news')
    await pool.channel('news').send('after')
    expect(await finish()).toEqual(['before', 'after', 'live'])
    expect(stream.face.channels).toEqual(['news'])
  })
})
