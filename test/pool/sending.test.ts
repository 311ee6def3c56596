/** Whom an event reaches, and for how long: `except`, several channels, `ttl` and `volatile`. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, PoolEvent, RouteOptions, SendOptions } from 'koa-sse-pool'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** Streams join the channels of the query: `?id=ada&in=news,sports`. */
function serve(pool: ClientPool, route: RouteOptions = {}) {
  const channels: RouteOptions['channels'] = ctx =>
    String(ctx.query.in ?? '')
      .split(',')
      .filter(Boolean)
  return serveStreams({ pool, channels, ...route })
}

async function serveOne(events = 10_000, route: RouteOptions = {}) {
  // So little that an entry which leaves the window is not put into a full socket.
  const pool = testPool({ window: { events }, maxBufferedBytes: 128 * 1024 })
  return { pool, ...(await serve(pool, route)) }
}

/** Two processes that share a log. */
async function serveTwo() {
  const log = sharedLog()
  const [near, far] = [testPool({ log: log.open() }), testPool({ log: log.open() })]
  return { log, near, far, here: await serve(near), there: await serve(far) }
}

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

/** Resolves to what the client got before this event. */
async function dataUntil(client: TestClient, last: string): Promise<string[]> {
  await client.until(({ data }) => data.includes(last))
  return client.data.slice(0, client.data.indexOf(last))
}

const gapsOf = ({ events }: TestClient) => events.filter(({ event }) => event === 'sse.gap')

/** Fills the client's socket. Resolves once the stream waits for it. */
async function block(pool: ClientPool, id: string, client: TestClient): Promise<void> {
  client.response.pause()
  const stream = streamOf(pool, id)
  while (!stream.isBlocked) {
    stream.face.send({ event: 'filler', data: '.'.repeat(100_000) })
    await turn()
  }
}

const withoutFillers = (data: readonly string[]) => data.filter(text => !text.startsWith('..'))

/** A clock that the test sets forward. */
function fakeClock() {
  const { now } = Date
  let ahead = 0
  vi.spyOn(Date, 'now').mockImplementation(() => now() + ahead)
  return {
    forward(milliseconds: number) {
      ahead += milliseconds
    },
  }
}

afterEach(() => {
  vi.restoreAllMocks()
})

describe('an event that leaves several clients out', () => {
  test('reaches all others, live and in a replay, on all processes', async () => {
    const { near, here, there } = await serveTwo()
    const start = await near.broadcast('start')
    const ada = await connect(here.origin, '/?id=ada&in=news')
    const bob = await connect(there.origin, '/?id=bob&in=news')
    const eve = await connect(there.origin, '/?id=eve&in=news')
    const except = ['ada', 'bob', 7, 'ada']
    await near.broadcast('to everyone else', { except })
    await near.channel('news').send('to the others in the channel', { except })
    await near.broadcast('last')
    expect(await dataUntil(ada, 'last')).toEqual([])
    expect(await dataUntil(bob, 'last')).toEqual([])
    const all = ['to everyone else', 'to the others in the channel']
    expect(await dataUntil(eve, 'last')).toEqual(all)
    for (const [id, expected] of [
      ['7', []],
      ['bob', []],
      ['eve', all],
    ] as const) {
      const back = await connect(there.origin, `/?id=${id}&in=news`, resumeWith(start))
      expect(await dataUntil(back, 'last')).toEqual(expected)
    }
  })

  test('is no loss to any of them when it leaves the window', async () => {
    const { pool, origin } = await serveOne(4)
    const client = await connect(origin, '/?id=bob')
    await block(pool, 'bob', client)
    for (let n = 0; n < 10; n++) await pool.broadcast(`${n}`, { except: ['ada', 'bob', `${n}`] })
    client.response.resume()
    await pool.broadcast('last')
    expect(withoutFillers(await dataUntil(client, 'last'))).toEqual([])
    expect(gapsOf(client)).toEqual([])
  })

  test('needs ids, and at most 100 of them', () => {
    const pool = testPool()
    const tooMany = Array.from({ length: 101 }, (_, n) => n)
    const wrong = (except: unknown) => () =>
      pool.broadcast('hello', { except } as unknown as SendOptions)
    expect(wrong(tooMany)).toThrow(new TypeError('except may have at most 100 ids; got 101'))
    expect(wrong(['ada', ''])).toThrow(/client id/)
    expect(wrong(['ada', 'b\nob'])).toThrow(/client id/)
    expect(wrong(() => true)).toThrow(/cannot be sent to other processes; got a function/)
    expect(pool.stats().entries).toBe(0)
  })

  test('may also leave out nobody', async () => {
    const { pool, origin } = await serveOne()
    const ada = await connect(origin, '/?id=ada')
    await pool.broadcast('hello', { except: [] })
    await ada.until(({ data }) => data.includes('hello'))
  })
})

describe('an event for several channels', () => {
  test('reaches the members of each, and those of several once, on all processes and in a replay', async () => {
    const { near, here, there } = await serveTwo()
    const start = await near.broadcast('start')
    const expected = ['both', 'sports']
    const members = [
      [await connect(here.origin, '/?id=ada&in=news,sports'), expected],
      [await connect(there.origin, '/?id=bob&in=sports'), expected],
      [await connect(there.origin, '/?id=eve&in=news'), ['both']],
      [await connect(there.origin, '/?id=sam&in=other'), []],
    ] as const
    await near.channels('news', 'sports', 'news').send('both', { except: 'joe' })
    await near.channel('sports').send('sports')
    await near.broadcast('last')
    for (const [client, expected] of members) {
      expect(await dataUntil(client, 'last')).toEqual(expected)
    }
    for (const [path, expected] of [
      ['/?id=new&in=sports,news', ['both', 'sports']],
      ['/?id=new&in=news', ['both']],
      ['/?id=joe&in=sports,news', ['sports']],
    ] as const) {
      const back = await connect(there.origin, path, resumeWith(start))
      expect(await dataUntil(back, 'last')).toEqual(expected)
    }
    expect(near.channels('news', 'sports', 'news').names).toEqual(['news', 'sports'])
  })

  test('leaves the window of each, and is a loss to the slow members of each', async () => {
    const { pool, origin } = await serveOne(3)
    const client = await connect(origin, '/?id=ada&in=sports')
    const other = await connect(origin, '/?id=bob&in=weather')
    await Promise.all([block(pool, 'ada', client), block(pool, 'bob', other)])
    await pool.channels('news', 'sports').send('lost')
    for (let n = 0; n < 3; n++) await pool.send('eve', 'for another')
    expect(pool.stats().window.events).toBe(3)
    client.response.resume()
    other.response.resume()
    expect((await client.event('sse.gap')).data).toBe('{"reason":"lagged"}')
    await pool.broadcast('last')
    await dataUntil(other, 'last')
    expect(gapsOf(other)).toHaveLength(0)
  })

  test('comes before a direct send that follows it, though it is still on its way to the log', async () => {
    const log = new FakeLog()
    const pool = testPool({ log })
    const { origin } = await serve(pool)
    const client = await connect(origin, '/?id=ada&in=sports,weather')
    await client.event('sse.cursor')
    log.isLive = false
    void pool.channels('news', 'sports', 'weather').send('first')
    streamOf(pool, 'ada').face.send('direct')
    await turn()
    log.deliver()
    expect(await dataUntil(client, 'direct')).toEqual(['first'])
  })

  test('needs the names of channels, and at most 100 of them', () => {
    const pool = testPool()
    expect(() => pool.channels()).toThrow(
      new TypeError('channels() needs the name of a channel; got none'),
    )
    expect(() => pool.channels('news', '')).toThrow(/channel must not be empty/)
    const tooMany = Array.from({ length: 101 }, (_, n) => `${n}`)
    expect(() => pool.channels(...tooMany)).toThrow(
      new TypeError('An event may go to at most 100 channels; got 101'),
    )
    expect(() => pool.channels('news').send({ event: 'x' } as unknown as PoolEvent)).toThrow(
      TypeError,
    )
    expect(() => pool.channels('news').send('x', { exept: 'ada' } as SendOptions)).toThrow(
      /"except"/,
    )
  })
})

describe('an event with a ttl', () => {
  test('is replayed within its time, and later there is neither the event nor a gap', async () => {
    const clock = fakeClock()
    const { near, here, there } = await serveTwo()
    const start = await near.broadcast('start')
    const expired = await near.send('ada', { data: 'short', ttl: 1000 })
    await near.broadcast({ data: 'long', ttl: 60_000 })
    await near.broadcast('last')
    clock.forward(900)
    const soon = await connect(there.origin, '/?id=ada', resumeWith(start))
    expect(await dataUntil(soon, 'last')).toEqual(['short', 'long'])
    clock.forward(101)
    const later = await connect(here.origin, '/?id=ada', resumeWith(start))
    expect(await dataUntil(later, 'last')).toEqual(['long'])
    expect(gapsOf(later)).toEqual([])
    // Its place in the log is still one to come back with.
    const between = await connect(there.origin, '/?id=ada', resumeWith(expired))
    expect(await dataUntil(between, 'last')).toEqual(['long'])
    expect(gapsOf(between)).toEqual([])
  })

  test('is not delivered to slow clients after its time, whether they share a batch or not', async () => {
    const clock = fakeClock()
    const { pool, origin } = await serveOne()
    const slow = await Promise.all(['ada', 'bob'].map(id => connect(origin, `/?id=${id}`)))
    await Promise.all(slow.map((client, i) => block(pool, i === 0 ? 'ada' : 'bob', client)))
    const quick = await connect(origin, '/?id=eve')
    await pool.broadcast({ data: 'short', ttl: 1000 })
    await pool.broadcast('last')
    expect(await dataUntil(quick, 'last')).toEqual(['short'])
    clock.forward(1000)
    for (const client of slow) {
      client.response.resume()
      expect(withoutFillers(await dataUntil(client, 'last'))).toEqual([])
      expect(gapsOf(client)).toEqual([])
    }
  })

  test('is no loss if it had expired when it left the window, and one if it had not', async () => {
    const clock = fakeClock()
    const { pool, origin } = await serveOne(2)
    const client = await connect(origin, '/?id=ada')
    await block(pool, 'ada', client)
    await pool.send('ada', { data: 'expired', ttl: 1000 })
    clock.forward(1000)
    for (let n = 0; n < 2; n++) await pool.send('bob', 'for another')
    client.response.resume()
    await pool.send('ada', 'between')
    await dataUntil(client, 'between')
    expect(gapsOf(client)).toEqual([])
    await block(pool, 'ada', client)
    await pool.send('ada', { data: 'valid', ttl: 1000 })
    for (let n = 0; n < 2; n++) await pool.send('bob', 'for another')
    client.response.resume()
    await client.event('sse.gap')
  })

  test.each([0, -1, 1.5, Number.NaN, Date.now() + 1000, '5s'])('of %s is refused', ttl => {
    const pool = testPool()
    expect(() => pool.broadcast({ data: 'x', ttl: ttl as number })).toThrow(
      /^ttl must be a whole number of milliseconds from 1 to 31536000000; got/,
    )
  })
})

describe('a volatile event', () => {
  test('reaches the clients that are connected, in order, and is not replayed to others, who get no gap', async () => {
    const { log, near, here, there } = await serveTwo()
    const start = await near.broadcast('start')
    const ada = await connect(here.origin, '/?id=ada&in=news')
    const bob = await connect(there.origin, '/?id=bob&in=news')
    const sent = await near.channel('news').send({ data: 'typing', volatile: true })
    await near.channel('news').send('text')
    await near.broadcast('last')
    for (const client of [ada, bob])
      expect(await dataUntil(client, 'last')).toEqual(['typing', 'text'])
    expect(ada.messages.find(({ data }) => data === 'typing')?.id).toBe(sent)
    const young = testPool({ log: log.open() })
    const places = [here, there, await serve(young)]
    for (const { origin } of places) {
      const back = await connect(origin, '/?id=eve&in=news', resumeWith(start))
      expect(await dataUntil(back, 'last')).toEqual(['text'])
      // The id of a volatile event is a cursor like any other.
      const again = await connect(origin, '/?id=eve&in=news', resumeWith(sent))
      expect(await dataUntil(again, 'last')).toEqual(['text'])
      expect([...gapsOf(back), ...gapsOf(again)]).toEqual([])
    }
  })

  test('reaches a client that has resumed and is still slow, if it was sent after that', async () => {
    const { pool, origin } = await serveOne()
    const start = await pool.broadcast('start')
    await pool.broadcast({ data: 'before', volatile: true })
    await pool.broadcast('missed'.padEnd(1_000_000, '.'))
    await pool.broadcast('x'.padEnd(1_000_000, '.'))
    const client = await connect(origin, '/?id=ada', resumeWith(start))
    client.response.pause()
    await pool.broadcast({ data: 'after', volatile: true })
    await pool.broadcast('last')
    client.response.resume()
    const data = await dataUntil(client, 'last')
    expect(data.map(text => text.split('.')[0])).toEqual(['missed', 'x', 'after'])
  })

  test('is no part of a history, whatever replay says', async () => {
    for (const replay of ['all', 'latest'] as const) {
      const { pool, origin } = await serveOne(10, { replay })
      await pool.broadcast('lasting')
      await pool.broadcast({ data: 'volatile', volatile: true })
      const client = await connect(origin, '/?id=ada')
      await pool.broadcast('last')
      expect(await dataUntil(client, 'last')).toEqual(['lasting'])
    }
  })

  test('is no loss to a slow client when it leaves the window', async () => {
    const { pool, origin } = await serveOne(3)
    const client = await connect(origin, '/?id=ada')
    await block(pool, 'ada', client)
    for (let n = 0; n < 10; n++) await pool.broadcast({ data: `${n}`, volatile: true })
    client.response.resume()
    await pool.broadcast('last')
    expect(withoutFillers(await dataUntil(client, 'last'))).toEqual(['8', '9'])
    expect(gapsOf(client)).toEqual([])
  })

  test('supersedes by its key, so a slow client gets only the newest position of a pointer', async () => {
    const { pool, origin } = await serveOne()
    const client = await connect(origin, '/?id=ada')
    await block(pool, 'ada', client)
    for (let n = 0; n < 5; n++)
      await pool.broadcast({ data: `${n}`, key: 'pointer', volatile: true })
    client.response.resume()
    await pool.broadcast('last')
    expect(withoutFillers(await dataUntil(client, 'last'))).toEqual(['4'])
  })

  test('supersedes a lasting event for good, so a client that comes back gets neither', async () => {
    const clock = fakeClock()
    const { pool, origin } = await serveOne()
    const start = await pool.broadcast('start')
    for (const key of ['a', 'b', 'c']) await pool.broadcast({ data: key, key })
    await pool.broadcast({ data: 'volatile', key: 'a', volatile: true })
    await pool.broadcast({ data: 'short', key: 'b', ttl: 1000 })
    await pool.broadcast('last')
    clock.forward(1000)
    const back = await connect(origin, '/?id=ada', resumeWith(start))
    expect(await dataUntil(back, 'last')).toEqual(['c'])
    expect(gapsOf(back)).toEqual([])
  })

  test('is not replayed to a stream whose process had to read the window again', async () => {
    const log = sharedLog()
    const pool = testPool({ log: log.open() })
    const { origin } = await serve(pool)
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('start')
    await dataUntil(client, 'start')
    log.state.isDeaf = true
    const [sink] = log.sinks
    void pool.broadcast({ data: 'volatile', volatile: true })
    void pool.broadcast('last')
    await turn()
    log.state.isDeaf = false
    sink?.reset(log.entries, 'trimmed')
    expect(await dataUntil(client, 'last')).toEqual(['start'])
    expect(gapsOf(client)).toEqual([])
  })

  test('must be a boolean', () => {
    const pool = testPool()
    expect(() => pool.broadcast({ data: 'x', volatile: 'yes' as unknown as boolean })).toThrow(
      new TypeError('volatile must be a boolean; got "yes"'),
    )
  })

  test('cannot be sent directly, nor can an event with a ttl', async () => {
    const { pool, origin } = await serveOne()
    await connect(origin, '/?id=ada')
    const { face } = streamOf(pool, 'ada')
    const send = (event: object) => () => face.send(event as { data: string })
    for (const field of ['ttl', 'volatile', 'key']) {
      expect(send({ data: 'x', [field]: true })).toThrow(
        new TypeError(`${field} works only on events sent through the pool`),
      )
    }
  })
})

describe('a window with a limit of age', () => {
  test('gives a gap to who comes back later, and nothing of it to a new client', async () => {
    let ahead = 0
    const { now } = performance
    vi.spyOn(performance, 'now').mockImplementation(() => now.call(performance) + ahead)
    const pool = testPool({ window: { age: 3_600_000 } })
    const { origin } = await serve(pool, { replay: 'all' })
    const old = await pool.broadcast('old')
    const last = await pool.broadcast('newest')
    const early = await connect(origin, '/?id=ada')
    expect(await dataUntil(early, 'newest')).toEqual(['old'])
    ahead = 3_600_000
    const late = await connect(origin, '/?id=bob')
    expect(pool.stats().window.events).toBe(0)
    const behind = await connect(origin, '/?id=eve', resumeWith(old))
    expect((await behind.event('sse.gap')).data).toBe('{"reason":"trimmed"}')
    const upToDate = await connect(origin, '/?id=sam', resumeWith(last))
    await pool.broadcast('live')
    for (const client of [late, behind, upToDate])
      expect(await dataUntil(client, 'live')).toEqual([])
    expect(gapsOf(upToDate)).toEqual([])
  })
})
