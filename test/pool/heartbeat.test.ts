import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { ClientPool, type PoolOptions, type RouteOptions } from 'koa-sse-pool'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Pump } from '../../src/delivery/pump.js'
import { Window } from '../../src/delivery/window.js'
import { Heartbeat, type HeartbeatListener } from '../../src/pool/heartbeat.js'
import type { Stream } from '../../src/stream/stream.js'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const INTERVAL = 1000

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
})

afterEach(() => {
  vi.useRealTimers()
})

const OPTIONS = { pingInterval: INTERVAL, heartbeat: 'event', authorize: undefined } as const

const beat = (interval = INTERVAL) => vi.advanceTimersByTime(interval)

async function open(options: PoolOptions = {}, route: RouteOptions = {}) {
  const pool = testPool({ pingInterval: INTERVAL, ...options })
  const { origin, server } = await serveStreams({ ...route, pool })
  const client = await connect(origin, '/?id=ada')
  return { pool, origin, server, client, stream: streamOf(pool, 'ada') }
}

test('a heartbeat is an event with the newest id, even if that event was for another client', async () => {
  const { pool, client } = await open()
  const id = await pool.send('bob', 'not for ada')
  beat()
  await client.until(({ lastEventId }) => lastEventId === id)
  expect(client.events.at(-1)).toEqual({ event: 'sse.cursor', id, data: '1000' })
  expect(client.text.endsWith(`event: sse.cursor\ndata: 1000\nid: ${id}\n\n`)).toBe(true)
})

test('one timer serves all streams', async () => {
  const { origin } = await open()
  for (const id of ['bob', 'eve']) await connect(origin, `/?id=${id}`)
  expect(vi.getTimerCount()).toBe(1)
})

test('a stream that was just written to needs no heartbeat', async () => {
  const { pool, client, stream } = await open()
  const write = vi.spyOn(stream, 'write')
  await pool.send('ada', 'news')
  await client.until(({ data }) => data.includes('news'))
  expect(write).toHaveBeenCalledTimes(1)
  beat()
  expect(write).toHaveBeenCalledTimes(1)
  beat()
  expect(write).toHaveBeenCalledTimes(2)
})

test('waiting events go first, and a heartbeat never carries an id beyond them', async () => {
  const { pool, client } = await open()
  void pool.send('ada', 'waits for the pump')
  const id = await pool.send('bob', 'not for ada')
  beat()
  beat()
  await client.until(({ lastEventId }) => lastEventId === id)
  expect(client.events.map(({ event, data }) => event ?? data)).toEqual([
    'sse.cursor',
    'waits for the pump',
    'sse.cursor',
  ])
})

test('a stream that is still catching up gets no cursor', () => {
  const written: string[] = []
  const window = new Window({ compare: () => 0 }, { events: 10, bytes: 1000 })
  window.fill({ id: 'e2', nonce: '', target: '', frame: '' })
  const stream = {
    isAtTail: () => false,
    needsCursor: true,
    withIds: true,
    canTake: () => true,
    writeCursor: ({ text }: { text: string }) => written.push(text),
  }
  const pump = { advance: () => {} } as unknown as Pump
  const heartbeat = new Heartbeat(window, pump, {} as HeartbeatListener, OPTIONS)
  heartbeat.sendFirstCursor(stream as unknown as Stream)
  expect(written).toEqual([])
  stream.isAtTail = () => true
  heartbeat.sendFirstCursor(stream as unknown as Stream)
  heartbeat.stop()
  expect(written).toEqual(['event: sse.cursor\ndata: 1000\nid: e2\n\n'])
})

test('a stream whose socket is full gets no heartbeat and resumes where it was', async () => {
  const { pool, origin, client, stream } = await open({ window: { bytes: 64 * 1024 * 1024 } })
  client.response.pause()
  for (let i = 1; !stream.isBlocked; i++) {
    await pool.send('ada', `${i}`.padEnd(100_000, '.'))
    await turn()
  }
  await pool.send('ada', 'not yet given')
  const write = vi.spyOn(stream, 'write')
  beat()
  beat()
  expect(write).not.toHaveBeenCalled()

  stream.close('slow')
  client.response.resume()
  await client.ended
  const again = await connect(origin, '/?id=ada', {
    headers: { 'Last-Event-ID': client.lastEventId },
  })
  await again.until(({ data }) => data.includes('not yet given'))
  const all = [...client.data, ...again.data].map(data => Number.parseInt(data, 10))
  expect(all.slice(0, -1)).toEqual(Array.from({ length: all.length - 1 }, (_, i) => i + 1))
})

test('a stream with ids of its own, or without any, keeps them', async () => {
  const { pool, client, stream } = await open()
  stream.face.send({ id: 'own', data: 'numbered by the app' })
  await pool.broadcast('pooled')
  beat()
  beat()
  await client.until(
    ({ events }) => events.filter(({ event }) => event === 'sse.cursor').length > 1,
  )
  expect(client.lastEventId).toBe('own')
  expect(client.events.at(-1)).toEqual({ event: 'sse.cursor', id: undefined, data: '1000' })
})

test('with resume: false neither events nor heartbeats have an id', async () => {
  const { pool, client } = await open({}, { resume: false })
  await pool.broadcast('pooled')
  await client.until(({ data }) => data.includes('pooled'))
  beat()
  beat()
  await client.event('sse.cursor')
  expect(client.text).not.toContain('id:')
})

test('a heartbeat by comment is invisible to clients that show every event', async () => {
  const { pool, client, stream } = await open({ heartbeat: 'comment' })
  await pool.send('bob', 'not for ada')
  const write = vi.spyOn(stream, 'write')
  beat()
  expect(write).toHaveBeenCalledTimes(1)
  await pool.send('ada', 'news')
  await client.until(({ data }) => data.includes('news'))
  expect(client.events.map(({ event }) => event)).toEqual([undefined])
  expect(client.comments).toEqual(['ok', ''])
  expect(client.text).toMatch(/^:ok\nid: \S+\n:\n/)
})

test('with pingInterval: false there is no heartbeat', async () => {
  const { pool, client, stream } = await open({ pingInterval: false })
  const write = vi.spyOn(stream, 'write')
  beat(60_000)
  expect(write).not.toHaveBeenCalled()
  await pool.send('ada', 'news')
  await client.until(({ data }) => data.includes('news'))
})

test('a stream that authorize refuses is closed at the next heartbeat, before anything else is sent (fault 58)', async () => {
  const allowed = new Set(['ada', 'bob'])
  const { origin, client, stream, pool } = await open({ authorize: ({ id }) => allowed.has(id) })
  await connect(origin, '/?id=bob')
  beat()
  expect(pool.size).toBe(2)
  allowed.delete('ada')
  const write = vi.spyOn(stream, 'write')
  beat()
  expect(await stream.face.closed).toBe('expired')
  expect(write).not.toHaveBeenCalled()
  expect([...pool.keys()]).toEqual(['bob'])
  // There is no close event, so that the page reconnects with a new token.
  expect(await client.ended).toBe(true)
  expect(client.text).not.toContain('sse.end')
})

test('authorize also closes a stream with pingInterval: false, and with a promise as its answer (fault 58)', async () => {
  let allowed = true
  const { stream } = await open({ pingInterval: false, authorize: async () => allowed })
  beat(15_000)
  await turn()
  expect(stream.isClosed).toBe(false)
  allowed = false
  beat(15_000)
  expect(await stream.face.closed).toBe('expired')
})

test.each([
  undefined,
  null,
  0,
  '',
  'yes',
  1,
  {},
  Promise.resolve(undefined),
  Promise.resolve(null),
])('authorize keeps a stream only by true, so that %o closes it (fault 76)', async answer => {
  const { stream } = await open({ authorize: () => answer as boolean })
  beat()
  expect(await stream.face.closed).toBe('expired')
})

test('an authorize that hangs is asked once for each stream, and for 100 streams at once (fault 76)', async () => {
  const asked: string[] = []
  const answers = new Map<string, (isAllowed: boolean) => void>()
  const pool = testPool({
    pingInterval: INTERVAL,
    authorize: ({ id }) => {
      asked.push(id)
      return new Promise<boolean>(resolve => answers.set(id, resolve))
    },
  })
  const { origin } = await serveStreams({ pool })
  const clients = await Promise.all(
    Array.from({ length: 103 }, (_, i) => connect(origin, `/?id=${i}`)),
  )
  const ids = [...pool.keys()]
  for (let i = 0; i < 60; i++) {
    beat()
    // A beat is done in slices, and on a slow machine one takes several.
    await turn()
  }
  expect(asked).toEqual(ids.slice(0, 100))

  // One of those that wait for their turn leaves, so the turn of the next one comes.
  const [answered, left, closed] = [ids[0], ids[100], ids[1]] as [string, string, string]
  clients.find((_, i) => `${i}` === left)?.close()
  await expect.poll(() => pool.has(left)).toBe(false)
  answers.get(answered)?.(true)
  answers.get(closed)?.(false)
  await expect.poll(() => asked.length).toBe(102)
  expect(asked.slice(100)).toEqual(ids.slice(101))
  expect(pool.has(answered)).toBe(true)
  expect(pool.has(closed)).toBe(false)

  // The one that was answered is asked again, in its turn; those that hang are not.
  beat()
  expect(asked).toHaveLength(102)
  answers.get(ids[2] as string)?.(true)
  await expect.poll(() => asked.slice(102)).toEqual([answered])
})

test('an authorize that answers at once is asked for any number of streams (fault 76)', async () => {
  let asked = 0
  const pool = testPool({
    pingInterval: INTERVAL,
    authorize: () => {
      asked += 1
      return true
    },
  })
  const { origin } = await serveStreams({ pool })
  await Promise.all(Array.from({ length: 120 }, (_, i) => connect(origin, `/?id=${i}`)))
  beat()
  await expect.poll(() => asked).toBe(120)
})

test('a timer runs only while the pool has a stream or another reader (fault 77)', async () => {
  const pool = testPool({ pingInterval: INTERVAL })
  const { origin } = await serveStreams({ pool })
  expect(vi.getTimerCount()).toBe(0)
  const ada = await connect(origin, '/?id=ada')
  const entries = pool.events()
  expect(vi.getTimerCount()).toBe(1)
  ada.close()
  await expect.poll(() => pool.size).toBe(0)
  expect(vi.getTimerCount()).toBe(1)
  await entries.return(undefined)
  expect(vi.getTimerCount()).toBe(0)

  const bob = await connect(origin, '/?id=bob')
  beat()
  beat()
  await bob.until(({ events }) => events.filter(({ event }) => event === 'sse.cursor').length > 1)
})

test('a pool that was dropped without close() is collected (fault 77)', async () => {
  vi.useRealTimers()
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const makePools = async () => {
    const unused = new ClientPool()
    const read = new ClientPool()
    const entries = read.events()
    await read.broadcast('news')
    await entries.next()
    await entries.return(undefined)
    return [new WeakRef(unused), new WeakRef(read)]
  }
  const pools = await makePools()
  // Each collection has a turn of its own: a weak reference that was read holds its target until then.
  for (const pool of pools) {
    while (pool.deref() !== undefined) {
      await turn()
      collect()
    }
  }
})

test('an authorize that fails is the pool’s error, and the stream stays open', async () => {
  const errors: Error[] = []
  let fails = () => Promise.reject(new Error('rejects'))
  const { pool, stream } = await open({ authorize: () => fails() })
  pool.on('error', error => errors.push(error))
  beat()
  await turn()
  fails = () => {
    throw new Error('throws')
  }
  beat()
  await turn()
  expect(errors.map(({ message }) => message)).toEqual(['rejects', 'throws'])
  expect(stream.isClosed).toBe(false)
})

test('a stream whose server no longer listens is drained, so that server.close() finishes', async () => {
  const { server, client, stream } = await open()
  const closed = new Promise(resolve => server.close(resolve))
  beat()
  expect(await stream.face.closed).toBe('drain')
  expect(await client.ended).toBe(true)
  expect(client.text).toMatch(/retry: \d+\n$/)
  await closed
})

test('a closed pool sends no heartbeats', async () => {
  const { pool } = await open()
  await pool.close()
  expect(vi.getTimerCount()).toBe(0)
})

test('a heartbeat continues in the next slice where the last one stopped', async () => {
  const seen: number[] = []
  const streams = new Set(
    Array.from({ length: 40 }, (_, i) => ({
      get isOpen() {
        seen.push(i)
        return false
      },
    })),
  )
  // Each reading of the clock takes longer than a slice.
  let now = 0
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 20
    return now
  })
  onTestFinished(() => clock.mockRestore())
  const listener = { streams: () => streams.values(), beat: () => {}, error: () => {} }
  const heartbeat = new Heartbeat(
    {} as Window,
    {} as Pump,
    listener as unknown as HeartbeatListener,
    OPTIONS,
  )
  onTestFinished(() => heartbeat.stop())
  heartbeat.start()
  beat()
  expect(seen).toHaveLength(16)
  while (seen.length < 40) await turn()
  expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => i))
})

describe('a client that resumes is told when it has got everything it missed', () => {
  const kinds = ({ events }: { events: readonly { event?: string | undefined; data: string }[] }) =>
    events.map(({ event = 'message', data }) => (event === 'sse.cursor' ? 'cursor' : data))

  test('by a cursor after the last event of the replay, with the time between heartbeats', async () => {
    const { pool, origin } = await open()
    const id = await pool.send('bob', 'before')
    for (const data of ['1', '2']) await pool.send('bob', data)
    const back = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': id } })
    await back.event('sse.cursor')
    expect(kinds(back)).toEqual(['1', '2', 'cursor'])
    expect(back.events.at(-1)?.data).toBe('1000')
  })

  test('at once if it has missed nothing', async () => {
    const { pool, origin } = await open()
    const id = await pool.send('bob', 'before')
    const back = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': id } })
    await back.event('sse.cursor')
    expect(kinds(back)).toEqual(['cursor'])
  })

  test('also when it had to wait for the log', async () => {
    const log = new FakeLog()
    const entry = (id: string, target: string) => ({
      id,
      target,
      nonce: id,
      frame: `data: ${id}\n\n`,
    })
    log.stored = [entry('1', '*')]
    const answered = deferred()
    log.beforeBarrier = () => answered.promise
    const { origin } = await open({ log })
    const back = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': '2' } })
    log.stored.push(entry('2', '*'), entry('3', '@bob'))
    log.deliver()
    answered.resolve()
    await back.event('sse.cursor')
    expect(kinds(back)).toEqual(['3', 'cursor'])
  })

  test('but not by the heartbeats of clients that show every event', async () => {
    const { pool, origin } = await open({ heartbeat: 'comment' })
    const id = await pool.send('bob', 'before')
    const back = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': id } })
    await pool.send('bob', 'live')
    await back.until(({ data }) => data.includes('live'))
    expect(kinds(back)).toEqual(['live'])
  })
})
