import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Pump } from '../../src/delivery/pump.js'
import { Window } from '../../src/delivery/window.js'
import type { Stream } from '../../src/stream/stream.js'
import { FakeReader, streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

async function open(options = {}, path = '/?id=ada') {
  const pool = testPool(options)
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, path)
  return { pool, origin, client, stream: streamOf(pool, 'ada') }
}

/** Fills the socket of a client that does not read. */
async function block(stream: Stream): Promise<number> {
  let sent = 0
  for (; !stream.isBlocked; sent++) {
    stream.face.send('filler'.padEnd(65_536, '.'))
    await turn()
  }
  return sent
}

describe('a healthy reader', () => {
  test('gets 50,000 sends of one tick without a gap through a window of 10,000', async () => {
    const { pool, client } = await open()
    for (let i = 1; i <= 50_000; i++) void pool.send('ada', String(i))
    await client.until(({ events }) => events.length > 50_000)
    expect(client.data.every((data, i) => data === String(i + 1))).toBe(true)
    expect(pool.stats()).toMatchObject({ gaps: 0, entries: 50_000, deliveries: 50_000 })
  })

  test('gets a burst in a few writes, not in one write for each entry', async () => {
    const { pool, client, stream } = await open()
    const write = vi.spyOn(stream, 'write')
    for (let i = 1; i <= 1000; i++) void pool.broadcast(String(i))
    await client.until(({ data }) => data.length === 1000)
    expect(write).toHaveBeenCalledTimes(1)
  })

  test('gets a burst in a few writes even if it is larger than the window', async () => {
    const { pool, client, stream } = await open({ window: { events: 100 } })
    const write = vi.spyOn(stream, 'write')
    for (let i = 1; i <= 1000; i++) void pool.broadcast(String(i))
    await client.until(({ data }) => data.length === 1000)
    expect(write.mock.calls.length).toBeLessThan(20)
  })

  test('still gets a burst in one write while an iteration reads along and the window is full', async () => {
    const { pool, client, stream } = await open({ window: { events: 100 } })
    const events = pool.events()
    const iterated: string[] = []
    const iteration = (async () => {
      for await (const { data } of events) iterated.push(data)
    })()
    for (let i = 0; i < 100; i++) void pool.broadcast('filler')
    await client.until(({ data }) => data.length === 100)
    while (iterated.length < 100) await turn()
    const write = vi.spyOn(stream, 'write')
    for (let i = 0; i < 50; i++) void pool.broadcast(`${i}`)
    await client.until(({ data }) => data.length === 150)
    expect(write).toHaveBeenCalledTimes(1)
    await events.return(undefined)
    await iteration
    expect(iterated).toEqual(client.data)
  })

  test('gets 20 MB that were sent in one tick', async () => {
    const { pool, client } = await open()
    for (let i = 1; i <= 200; i++) void pool.send('ada', String(i).padEnd(100_000, '.'))
    await client.until(({ data }) => data.length === 200)
    expect(client.data.map(data => Number.parseInt(data, 10))).toEqual(
      Array.from({ length: 200 }, (_, i) => i + 1),
    )
    expect(pool.stats().gaps).toBe(0)
  })

  test('gets what listeners send in the middle of a flush', async () => {
    const { pool, origin, client } = await open({ window: { events: 10 } })
    pool.once('gap', () => {
      for (let i = 1; i <= 30; i++) void pool.send('ada', `from listener ${i}`)
    })
    await pool.broadcast('first')
    const stranger = await connect(origin, '/?id=bob', { headers: { 'Last-Event-ID': 'unknown' } })
    await stranger.event('sse.gap')
    await client.until(({ data }) => data.includes('from listener 30'))
    expect(client.data).toHaveLength(31)
    expect(pool.stats().gaps).toBe(1)
  })
})

describe('a direct send', () => {
  test('arrives after an earlier pool.send and before a later one', async () => {
    const { pool, client, stream } = await open()
    for (const round of [1, 2, 3]) {
      void pool.send('ada', `pooled ${round}`)
      stream.face.send(`direct ${round}`)
    }
    void pool.send('ada', 'last')
    await client.until(({ data }) => data.includes('last'))
    const rounds = [1, 2, 3].flatMap(round => [`pooled ${round}`, `direct ${round}`])
    expect(client.data).toEqual([...rounds, 'last'])
  })

  test('keeps its place even while the reader is blocked', async () => {
    const { pool, client, stream } = await open()
    client.response.pause()
    const fillers = await block(stream)
    for (const round of [1, 2, 3]) {
      void pool.send('ada', `pooled ${round}`)
      void pool.broadcast(`broadcast ${round}`)
      stream.face.send(`direct ${round}`)
    }
    client.response.resume()
    await client.until(({ data }) => data.includes('direct 3'))
    expect(client.data.slice(fillers)).toEqual(
      [1, 2, 3].flatMap(round => [`pooled ${round}`, `broadcast ${round}`, `direct ${round}`]),
    )
  })
})

describe('a key', () => {
  test('lets only the newest of a burst through, in its own place', async () => {
    const { pool, client } = await open()
    void pool.send('ada', { data: 'a1', key: 'a' })
    void pool.send('ada', 'plain')
    void pool.send('ada', { data: 'b1', key: 'b' })
    void pool.send('ada', { data: 'a2', key: 'a' })
    void pool.send('ada', 'last')
    await client.until(({ data }) => data.includes('last'))
    expect(client.data).toEqual(['plain', 'b1', 'a2', 'last'])
  })

  test('spares a slow reader everything but the newest', async () => {
    const { pool, client, stream } = await open()
    client.response.pause()
    const fillers = await block(stream)
    for (let i = 1; i <= 100; i++) {
      void pool.send('ada', { data: `${i} %`, key: 'progress' })
      await turn()
    }
    void pool.send('ada', 'done')
    client.response.resume()
    await client.until(({ data }) => data.includes('done'))
    expect(client.data.slice(fillers)).toEqual(['100 %', 'done'])
  })

  test('drops nothing for a reader that keeps up', async () => {
    const { pool, client } = await open()
    for (const data of ['1', '2', '3']) {
      await pool.send('ada', { data, key: 'progress' })
      await client.until(client => client.data.includes(data))
    }
    expect(client.data).toEqual(['1', '2', '3'])
  })
})

test('an exception applies to one client in batches that all others share', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, channels: () => ['news'] })
  const [ada, bob, eve] = await Promise.all(
    ['ada', 'bob', 'eve'].map(id => connect(origin, `/?id=${id}`)),
  )
  void pool.broadcast('1')
  void pool.broadcast('2', { except: 'ada' })
  void pool.channel('news').send('3', { except: 'bob' })
  void pool.broadcast('4', { except: 'nobody' })
  void pool.broadcast('5')
  for (const [client, expected] of [
    [ada, ['1', '3', '4', '5']],
    [bob, ['1', '2', '4', '5']],
    [eve, ['1', '2', '3', '4', '5']],
  ] as const) {
    await client?.until(({ data }) => data.includes('5'))
    expect(client?.data).toEqual(expected)
  }
})

test('a slow reader delays nobody else', async () => {
  const { pool, origin, client, stream } = await open()
  const quick = await connect(origin, '/?id=bob')
  client.response.pause()
  await block(stream)
  await pool.broadcast('for all')
  await quick.until(({ data }) => data.includes('for all'))
  expect(stream.isBlocked).toBe(true)
})

function makePump(options: { events?: number; bytes?: number; onTake?: () => void } = {}) {
  const { events = 10_000, bytes = 1e9, onTake = () => {} } = options
  const window = new Window({ compare: (a, b) => Number(a) - Number(b) }, { events, bytes })
  const pump = new Pump(window, 0)
  const reader = (id: string) => {
    const reader = new FakeReader(
      id,
      ['*', `@${id}`].map(name => window.target(name)),
    )
    reader.onTake = onTake
    return reader
  }
  let count = 0
  const send = (target: string, frame = 'data: x\n\n') => {
    count += 1
    window.append({ id: String(count), nonce: '', target, frame })
  }
  return { pump, window, reader, send }
}

describe('the pump', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  test('works in slices, so that a small target does not wait for a large one', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { reader, send } = makePump({ onTake: () => vi.advanceTimersByTime(1) })
    const streams = Array.from({ length: 1000 }, (_, i) => reader(`client-${i}`))
    const served = () => streams.filter(({ got }) => got !== '').length

    send('*')
    await turn()
    const inOneSlice = served()
    expect(inOneSlice).toBeGreaterThan(0)
    expect(inOneSlice).toBeLessThan(100)

    const last = streams.at(-1) as FakeReader
    send('@client-999', 'data: single\n\n')
    await turn()
    expect(last.got).toBe('data: x\nid: 1\n\ndata: single\nid: 2\n\n')
    expect(served()).toBeLessThan(200)
    while (served() < 1000) await turn()
    expect(streams.every(({ got }) => got.startsWith('data: x\nid: 1\n\n'))).toBe(true)
  })

  test('starves neither small targets nor large ones', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { reader, send } = makePump({ onTake: () => vi.advanceTimersByTime(1) })
    const streams = Array.from({ length: 1000 }, (_, i) => reader(`client-${i}`))
    send('*')
    for (let i = 0; streams.some(({ got }) => !got.includes('id: 1\n')); i++) {
      for (let j = 0; j < 20; j++) send(`@client-${j}`)
      expect(i).toBeLessThan(1000)
      await turn()
    }
  })

  test('serves each member of a target once, though others leave and join in between', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { reader, send, window } = makePump({ onTake: () => vi.advanceTimersByTime(1) })
    const streams = Array.from({ length: 200 }, (_, i) => reader(`client-${i}`))
    send('*')
    await turn()
    for (const { targets } of streams.slice(0, 50)) {
      for (const target of targets) target.delete(streams[0] as FakeReader)
    }
    const late = reader('late')
    late.start(window, 'missed')
    while (streams.at(-1)?.got === '') await turn()
    expect(streams.filter(({ got }) => got === 'data: x\nid: 1\n\n')).toHaveLength(200)
    expect(late.got).toBe('')
  })

  test('lets no entry leave the window before it was offered', () => {
    const { reader, send } = makePump({ events: 10 })
    const ada = reader('ada')
    const blocked = reader('bob')
    blocked.isFull = true
    for (let i = 0; i < 100; i++) send('*')
    expect(ada.got.match(/id: /g)?.length).toBeGreaterThanOrEqual(90)
    expect(blocked.got).toBe('')
    expect([ada, blocked].flatMap(({ gaps }) => gaps)).toEqual([])
  })

  test('lets no entry leave the window while a slice has served only some of its readers', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { reader, send } = makePump({ events: 10, onTake: () => vi.advanceTimersByTime(1) })
    const streams = Array.from({ length: 200 }, (_, i) => reader(`client-${i}`))
    const served = () => streams.filter(({ got }) => got === 'data: x\nid: 1\n\n').length
    send('*')
    await turn()
    expect(served()).toBeGreaterThan(0)
    expect(served()).toBeLessThan(200)
    for (let i = 0; i < 10; i++) send('@nobody')
    expect(served()).toBe(200)
    expect(streams.flatMap(({ gaps }) => gaps)).toEqual([])
  })

  test('evicts no entry that a stream has not reached because its share of a slice was used up', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { reader, send } = makePump({
      bytes: 10_000_000,
      onTake: () => vi.advanceTimersByTime(20),
    })
    const ada = reader('ada')
    for (let i = 0; i < 80; i++) send('@ada', 'x'.repeat(100_000))
    await turn()
    const had = ada.got.length
    expect(had).toBeLessThan(8_000_000)
    // Then other targets fill the window in one tick.
    for (let i = 0; i < 200; i++) send('@nobody', 'x'.repeat(100_000))
    while (ada.got.length < 8_000_000 && ada.gaps.length === 0) await turn()
    expect(ada.gaps).toEqual([])
  })

  test('makes room without giving 60 readers that are far behind more than a batch each (fault 115)', async () => {
    const { pump, reader, send } = makePump({ bytes: 8_000_000 })
    const readers = Array.from({ length: 60 }, (_, i) => reader(`client-${i}`))
    for (const one of readers) one.isFull = true
    for (let i = 0; i < 79; i++) send('*', 'x'.repeat(100_000))
    await turn()
    // Each takes its share when its socket drains, and then waits for its turn, far behind the tail.
    for (const one of readers) {
      one.isFull = false
      pump.advance(one)
    }
    const had = readers.map(({ got }) => got.length)
    for (let i = 0; i < 14; i++) send('*', 'x'.repeat(100_000))
    for (const [i, { got, gaps }] of readers.entries()) {
      expect(got.length - (had[i] ?? 0)).toBeLessThan(400_000)
      expect(gaps).toEqual([])
    }
    while (pump.hungry > 0) await turn()
    expect(readers.flatMap(({ gaps }) => gaps)).toEqual([])
    expect(readers.every(({ got }) => got.length > 91 * 100_000)).toBe(true)
  })

  test('serves all hungry readers that would lose an entry, and no others, before it is evicted', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const { pump, window, reader, send } = makePump({
      events: 60,
      onTake: () => vi.advanceTimersByTime(20),
    })
    const endangered = ['ada', 'bob', 'cat'].map(reader)
    const safe = new FakeReader('eve', [window.target('@eve')])
    for (const target of ['*', '@eve']) {
      for (let i = 0; i < 30; i++) send(target, 'x'.repeat(100_000))
    }
    await turn()
    expect(pump.hungry).toBe(4)
    const had = safe.got.length
    for (const { got } of endangered) expect(got.length).toBeLessThan(3_000_000)
    // These evict the 30 broadcasts in one tick.
    for (let i = 0; i < 30; i++) send('@nobody')
    for (const { got } of endangered) expect(got.match(/id: /g)).toHaveLength(30)
    expect(safe.got.length).toBe(had)
    while (pump.hungry > 0) await turn()
    expect(safe.got.match(/id: /g)).toHaveLength(30)
    expect([...endangered, safe].flatMap(({ gaps }) => gaps)).toEqual([])
  })

  test('gives each stream its share before one gets more', async () => {
    const { reader, send } = makePump()
    const order: string[] = []
    const [ada, bob] = ['ada', 'bob'].map(reader) as [FakeReader, FakeReader]
    for (const one of [ada, bob]) Object.assign(one, { onTake: () => order.push(one.id) })
    for (let i = 0; i < 30; i++) send('*', 'x'.repeat(100_000))
    while (ada.got.length + bob.got.length < 6_000_000) await turn()
    const firstOfBob = order.indexOf('bob')
    expect(firstOfBob).toBeLessThanOrEqual(5)
    expect(ada.got).toBe(bob.got)
  })

  test('reports a gap once, with the tail as the new cursor', async () => {
    const { reader, send } = makePump({ events: 10 })
    const ada = reader('ada')
    ada.isFull = true
    for (let i = 0; i < 100; i++) send('@ada')
    await turn()
    ada.isFull = false
    send('@ada', 'data: live\n\n')
    await turn()
    expect(ada.got).toBe('event: sse.gap\ndata: {"reason":"lagged"}\nid: 101\n\n')
    send('@ada', 'data: next\n\n')
    await turn()
    expect(ada.got).toContain('data: next\nid: 102\n\n')
    expect(ada.gaps).toEqual(['lagged'])
  })
})
