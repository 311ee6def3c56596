import { setImmediate as turn } from 'node:timers/promises'
import { EventSource } from 'eventsource'
import type { ClientPool, EventStream } from 'koa-sse-pool'
import { expect, onTestFinished, test, vi } from 'vitest'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

const MIB = 1024 * 1024

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

/** The data of the events from one number to another, each padded to a number of bytes. */
function numbered(from: number, to: number, bytes = 0): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`.padEnd(bytes, '.'))
}

/** Only the numbers: if an assertion failed on megabytes, the diff would take longer than the test. */
const numbers = (client: TestClient) => client.data.map(data => Number.parseInt(data, 10))

const opening = (pool: ClientPool) =>
  new Promise<EventStream>(resolve => pool.once('open', resolve))

test('events published during a replay arrive exactly once and in order (fault 19)', async () => {
  const pool = testPool({ window: { bytes: 64 * MIB } })
  const { origin } = await serveStreams({ pool }, async () => {
    // While the handler runs, before the response opens.
    for (const data of numbered(201, 210)) void pool.send('ada', data)
  })
  const first = await pool.send('ada', '0')
  // More than the socket takes, so that the replay is still running when the next events are sent.
  for (const data of numbered(1, 200, 100_000)) void pool.send('ada', data)
  const client = await connect(origin, '/?id=ada', resumeWith(first))
  for (const data of numbered(211, 220)) void pool.send('ada', data)
  await client.until(({ data }) => data.length >= 1)
  for (const data of numbered(221, 230)) void pool.broadcast(data)
  await client.until(({ data }) => data.includes('230'))
  expect(numbers(client)).toEqual(numbered(1, 230).map(Number))
  expect(pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
})

test('a cursor at the oldest kept event gets all after it, an older one a gap, the tail nothing (fault 20)', async () => {
  const pool = testPool({ window: { events: 10 } })
  const { origin } = await serveStreams({ pool })
  const ids: string[] = []
  for (const data of numbered(0, 29)) ids.push(await pool.send('ada', data))
  const at = (index: number) => resumeWith(ids[index] as string)

  const oldest = await connect(origin, '/?id=ada', at(20))
  const older = await connect(origin, '/?id=ada', at(19))
  const newest = await connect(origin, '/?id=ada', at(29))
  await older.event('sse.gap')
  await pool.send('ada', '30')
  for (const client of [oldest, older, newest]) {
    await client.until(({ data }) => data.includes('30'))
  }
  expect(oldest.data).toEqual(numbered(21, 30))
  expect(older.data).toEqual(['30'])
  expect(older.events[0]).toMatchObject({ data: '{"reason":"trimmed"}', id: ids[29] })
  expect(newest.data).toEqual(['30'])
  expect(newest.events.map(({ event }) => event)).toEqual(['sse.cursor', undefined])
})

test('a client that disconnects in mid-replay continues from there (fault 21)', async () => {
  const pool = testPool({ window: { bytes: 64 * MIB } })
  const { origin } = await serveStreams({ pool })
  let cursor = await pool.send('ada', '0')
  for (const data of numbered(1, 400, 50_000)) void pool.send('ada', data)
  const got: number[] = []
  while (got.at(-1) !== 400) {
    const client = await connect(origin, '/?id=ada', resumeWith(cursor))
    await client.until(({ data }) => data.length >= 30 || data.at(-1)?.startsWith('400.') === true)
    client.close()
    await client.ended
    got.push(...numbers(client))
    cursor = client.lastEventId
  }
  expect(got).toEqual(numbered(1, 400).map(Number))
  expect(pool.stats().gaps).toBe(0)
})

test('an EventSource whose connection is cut again and again misses nothing (fault 21)', async () => {
  const pool = testPool()
  const { origin, cut } = await serveStreams({ pool, retry: 1 })
  const opened = opening(pool)
  const source = new EventSource(`${origin}/?id=ada`)
  onTestFinished(() => source.close())
  const got: number[] = []
  let arrived = () => {}
  source.onmessage = ({ data }) => {
    got.push(Number(data))
    arrived()
  }
  await opened
  for (let round = 0; round < 10; round++) {
    const reopened = opening(pool)
    for (const data of numbered(round * 20 + 1, round * 20 + 10)) void pool.send('ada', data)
    // Some events have arrived, some are in transit, and some are sent while the client is away.
    await new Promise<void>(resolve => {
      arrived = resolve
    })
    cut()
    for (const data of numbered(round * 20 + 11, round * 20 + 20)) void pool.send('ada', data)
    await reopened
  }
  while (got.at(-1) !== 200) {
    await new Promise<void>(resolve => {
      arrived = resolve
    })
  }
  expect(got).toEqual(numbered(1, 200).map(Number))
  expect(pool.stats().gaps).toBe(0)
})

/** Broadcasts 50 MB to a client that does not read; returns the most that this process buffered. */
async function flood(pool: ClientPool, stream: EventStream): Promise<number> {
  let held = 0
  for (const data of numbered(1, 500, 100_000)) {
    void pool.broadcast(data)
    await turn()
    held = Math.max(held, stream.bufferedBytes)
  }
  return held
}

test('a client that does not read costs little memory and later gets everything in order (fault 22)', async () => {
  const pool = testPool({ window: { bytes: 64 * MIB } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  client.response.pause()
  expect(await flood(pool, streamOf(pool, 'ada').face)).toBeLessThan(5 * MIB)
  expect(pool.stats().lagging).toBe(1)
  client.response.resume()
  await client.until(({ data }) => data.at(-1)?.startsWith('500.') === true)
  expect(numbers(client)).toEqual(numbered(1, 500).map(Number))
  expect(pool.stats().gaps).toBe(0)
})

test('a client that fell out of the window gets what was written, one gap, then live events (fault 22)', async () => {
  const pool = testPool({ window: { events: 50 } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  client.response.pause()
  expect(await flood(pool, streamOf(pool, 'ada').face)).toBeLessThan(5 * MIB)
  expect(pool.stats().window.bytes).toBeLessThan(6 * MIB)
  client.response.resume()
  await client.event('sse.gap')
  await pool.send('ada', '501')
  await client.until(({ data }) => data.includes('501'))
  // The first event is the cursor that a new stream is given.
  const events = client.events.slice(1).map(({ event, data }) => event ?? Number.parseInt(data, 10))
  const gap = events.indexOf('sse.gap')
  expect(events.slice(0, gap)).toEqual(numbered(1, gap).map(Number))
  expect(events.slice(gap + 1)).toEqual([501])
  expect(client.events[gap + 1]?.data).toBe('{"reason":"lagged"}')
  expect(pool.stats().gaps).toBe(1)
})

test('a client that does not read during its replay costs little memory either (fault 22)', async () => {
  const pool = testPool({ window: { bytes: 64 * MIB } })
  const { origin } = await serveStreams({ pool })
  const first = await pool.broadcast('0')
  for (const data of numbered(1, 500, 100_000)) void pool.broadcast(data)
  const opened = opening(pool)
  const client = await connect(origin, '/?id=ada', resumeWith(first))
  client.response.pause()
  await opened
  const stream = streamOf(pool, 'ada')
  while (!stream.isBlocked) await turn()
  expect(stream.bufferedBytes).toBeLessThan(5 * MIB)
  client.response.resume()
  await client.until(({ data }) => data.length >= 500)
  expect(numbers(client)).toEqual(numbered(1, 500).map(Number))
})

test('a client that takes nothing for stallTimeout is closed as slow and resumes (fault 22)', async () => {
  const pool = testPool({ window: { bytes: 64 * MIB }, stallTimeout: 50 })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  const stream = streamOf(pool, 'ada')
  client.response.pause()
  await flood(pool, stream.face)
  expect(await stream.face.closed).toBe('slow')
  expect(pool.size).toBe(0)

  // What the kernel had already accepted still arrives; the rest is replayed.
  client.response.resume()
  expect(await client.ended).toBe(false)
  expect(pool.stats()).toMatchObject({ gaps: 0, closed: { slow: 1 } })
  const got = numbers(client)
  let { lastEventId } = client
  // On a busy machine this process takes nothing for stallTimeout either, so its client may be slow again.
  while (got.at(-1) !== 500) {
    const again = await connect(origin, '/?id=ada', resumeWith(lastEventId))
    const isLast = ({ data }: TestClient) => data.at(-1)?.startsWith('500.') === true
    await again.until(isLast).catch(() => again.ended)
    got.push(...numbers(again))
    lastEventId = again.lastEventId || lastEventId
  }
  expect(got).toEqual(numbered(1, 500).map(Number))
  expect(pool.stats()).toMatchObject({ gaps: 0 })
})

test('a quiet client gets no false gap when others fill the window three times (fault 23)', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  onTestFinished(() => {
    vi.useRealTimers()
  })
  const pool = testPool({ window: { events: 100 }, pingInterval: 1000 })
  const { origin } = await serveStreams({ pool })
  const quiet = await connect(origin, '/?id=ada')
  await connect(origin, '/?id=bob')
  for (let beat = 1; beat <= 6; beat++) {
    let id = ''
    for (const data of numbered(1, 50)) id = await pool.send('bob', data)
    vi.advanceTimersByTime(1000)
    await quiet.until(({ lastEventId }) => lastEventId === id)
  }
  expect(quiet.events.every(({ event }) => event === 'sse.cursor')).toBe(true)
  quiet.close()
  await quiet.ended
  for (const data of numbered(1, 50)) await pool.send('bob', data)
  await pool.send('ada', 'missed')

  const back = await connect(origin, '/?id=ada', resumeWith(quiet.lastEventId))
  await back.until(({ data }) => data.includes('missed'))
  expect(back.data).toEqual(['missed'])
  expect(pool.stats()).toMatchObject({ gaps: 0, replays: 1 })
})

test('an open quiet stream gets no gap, even without heartbeats (fault 23)', async () => {
  const pool = testPool({ window: { events: 100 }, pingInterval: false })
  const { origin } = await serveStreams({ pool })
  const quiet = await connect(origin, '/?id=ada')
  for (const data of numbered(1, 300)) await pool.send('bob', data)
  await pool.send('ada', 'live')
  await quiet.until(({ data }) => data.includes('live'))
  expect(quiet.data).toEqual(['live'])
  expect(pool.stats().gaps).toBe(0)
})

test('a channel joined in mid-stream is read from its tail only (fault 24)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await pool.channel('news').send('before')
  streamOf(pool, 'ada').face.join('news')
  await pool.channel('news').send('after')
  await client.until(({ data }) => data.length > 0)
  expect(client.data).toEqual(['after'])
})

test('a channel joined while the stream’s own replay waits is read from its tail only (fault 24)', async () => {
  const pool = testPool()
  let first = ''
  const { origin } = await serveStreams({ pool }, async ctx => {
    await pool.channel('news').send('before')
    ctx.sse.join('news')
    void pool.channel('news').send('after')
  })
  first = await pool.send('ada', '0')
  await pool.channel('news').send('long before')
  await pool.send('ada', '1')
  const client = await connect(origin, '/?id=ada', resumeWith(first))
  await client.until(({ data }) => data.includes('after'))
  expect(client.data).toEqual(['1', 'after'])
})

test('a channel named by the route is replayed (fault 24)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, channels: () => ['news'] })
  const first = await pool.send('ada', '0')
  await pool.channel('news').send('missed')
  const client = await connect(origin, '/?id=ada', resumeWith(first))
  await client.until(({ data }) => data.includes('missed'))
  expect(client.data).toEqual(['missed'])
})
