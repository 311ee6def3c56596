import { EventSource } from 'eventsource'
import type { ClientPool, EventStream } from 'koa-sse-pool'
import { expect, onTestFinished, test } from 'vitest'
import { Resumption } from '../../src/delivery/resume.js'
import { Window } from '../../src/delivery/window.js'
import { MemoryLog } from '../../src/log/memory.js'
import { FakeReader } from '../helpers/interior.js'
import { connect, rawConnection, serveStreams, testPool } from '../helpers/server.js'

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

/** An id of another pool's log, such as that of this server before a restart. */
const foreignId = () => testPool().broadcast('elsewhere')

const FORGED = {
  'an unknown id': () => 'nonsense',
  'another pool’s id': foreignId,
  'an id of an older epoch': (id: string) => id.replace(/-.*/, '-000000000000'),
  'a future id': (id: string) => id.replace(/^[^-]*/, 'zzzz'),
  'an id with a wrong nonce': (id: string) => `${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}`,
  // It compares as equal to the real id, but is a different one.
  'another id with the same place': (id: string) => `0${id}`,
  'an id without a number': (id: string) => id.replace(/^[^-]*/, ''),
  'an id with a fraction': (id: string) => id.replace('-', '.5-'),
}

for (const [what, forge] of Object.entries(FORGED)) {
  test(`${what} gets one gap, then live events (fault 14)`, async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await pool.broadcast('one')
    const tail = await pool.broadcast('two')
    const client = await connect(origin, '/?id=ada', resumeWith(await forge(tail)))
    await client.event('sse.gap')
    await pool.send('ada', 'live')
    await client.until(({ data }) => data.includes('live'))
    expect(client.data).toEqual(['live'])
    expect(client.events.map(({ event }) => event)).toEqual(['sse.gap', undefined])
    expect(client.events[0]).toMatchObject({ id: tail, data: expect.stringMatching(/^{"reason":/) })
    expect(pool.stats()).toMatchObject({ gaps: 1, replays: 0, parked: 0 })
  })
}

test('the reason of a gap is "unknown" unless the id is an older one of this log (fault 14)', async () => {
  const pool = testPool({ window: { events: 2 } })
  const { origin } = await serveStreams({ pool })
  const trimmed = await pool.broadcast('one')
  for (const data of ['two', 'three', 'four']) await pool.broadcast(data)
  const old = await connect(origin, '/', resumeWith(trimmed))
  const foreign = await connect(origin, '/', resumeWith(await foreignId()))
  expect((await old.event('sse.gap')).data).toBe('{"reason":"trimmed"}')
  expect((await foreign.event('sse.gap')).data).toBe('{"reason":"unknown"}')
})

/** Records the arguments of every call to the log. */
class WatchedLog extends MemoryLog {
  readonly asked: unknown[] = []
  override async append(...args: Parameters<MemoryLog['append']>) {
    this.asked.push(...args)
    return super.append(...args)
  }
  override async barrier(...args: []) {
    this.asked.push(...args)
    return super.barrier(...args)
  }
}

const HOSTILE = [
  "' OR 1",
  '../',
  '../../etc/passwd',
  '$',
  '+',
  '-',
  '>',
  '(',
  '0-0',
  '*',
  '{x}',
  '%00',
]

test('a hostile id gets a gap and never becomes an argument of a command (fault 15)', async () => {
  const log = new WatchedLog()
  const pool = testPool({ log })
  const { origin } = await serveStreams({ pool })
  await pool.broadcast('before')
  log.asked.length = 0
  for (const id of [...HOSTILE, 'a'.repeat(12_000)]) {
    const inHeader = await connect(origin, '/', resumeWith(id))
    const inQuery = await connect(origin, `/?lastEventId=${encodeURIComponent(id)}`)
    expect((await inHeader.event('sse.gap')).data).toBe('{"reason":"unknown"}')
    expect((await inQuery.event('sse.gap')).data).toBe('{"reason":"unknown"}')
  }
  expect(log.asked).toEqual([])
})

test('an id of 16 KB is refused by the server with 431 (fault 15)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/', resumeWith('a'.repeat(16 * 1024)))
  expect(client.status).toBe(431)
  expect(pool.connections).toBe(0)
})

test('several ids in the query count as none (fault 15)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const first = await pool.broadcast('before')
  const client = await connect(origin, `/?id=ada&lastEventId=${first}&lastEventId=x`)
  await pool.broadcast('live')
  await client.until(({ data }) => data.includes('live'))
  expect(client.data).toEqual(['live'])
  expect(pool.stats().gaps).toBe(0)
})

test('an empty header counts as absent (fault 16)', async () => {
  const pool = testPool()
  const { origin, port } = await serveStreams({ pool })
  const id = await pool.broadcast('before')
  await pool.broadcast('missed')
  const socket = await rawConnection(port)
  let text = ''
  socket.on('data', bytes => {
    text += bytes
  })
  const opened = new Promise(resolve => pool.once('open', resolve))
  socket.write('GET /?id=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\nLast-Event-ID:\r\n\r\n')
  await opened
  const withQuery = await connect(origin, `/?id=ada&lastEventId=${id}`, resumeWith(''))
  await withQuery.until(({ data }) => data.includes('missed'))
  await pool.broadcast('live')
  await withQuery.until(({ data }) => data.includes('live'))
  await pool.remove('raw')
  await new Promise(resolve => socket.once('close', resolve))
  expect(text).toContain('data: live')
  expect(text).not.toContain('missed')
  expect(text).not.toContain('sse.gap')
})

test('the header wins over the query (fault 16)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const one = await pool.broadcast('one')
  const two = await pool.broadcast('two')
  await pool.broadcast('three')
  const client = await connect(origin, `/?id=ada&lastEventId=${one}`, resumeWith(two))
  await client.until(({ data }) => data.includes('three'))
  expect(client.data).toEqual(['three'])
  expect([...(pool.get('ada')?.streams ?? [])][0]?.lastEventId).toBe(two)
})

test('the id of another client’s event reveals nothing (fault 17)', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const own = await pool.send('ada', 'own 1')
  const secret = await pool.send('bob', 'secret 1')
  await pool.channel('staff').send('secret 2')
  await pool.send('bob', 'secret 3')
  await pool.send('ada', 'own 2')

  const byOwn = await connect(origin, '/?id=ada', resumeWith(own))
  const bySecret = await connect(origin, '/?id=ada', resumeWith(secret))
  await byOwn.until(({ data }) => data.includes('own 2'))
  await bySecret.until(({ data }) => data.includes('own 2'))
  expect(bySecret.text).toBe(byOwn.text)
  expect(bySecret.text).not.toContain('secret')
})

test('10,000 garbage ids at once ask the log at most twice (fault 18)', async () => {
  const log = new MemoryLog()
  let barriers = 0
  const window = new Window(log, { events: 100, bytes: 1e6 })
  const sink = { append: append(window), reset: append(window), state: () => {}, error: () => {} }
  await log.open(sink)
  await log.append({ nonce: 'n', target: '*', frame: 'data: x\n\n' })

  let decided = 0
  const done = new Promise<void>(resolve => {
    const asked = {
      barrier: async () => {
        barriers += 1
        return log.barrier()
      },
    }
    const listener = { resumed() {}, lost() {}, settled() {}, error() {} }
    const resumption = new Resumption(window, asked, listener)
    const onWake = () => {
      decided += 1
      if (decided === 10_000) resolve()
    }
    for (let i = 0; i < 10_000; i++) {
      resumption.resume(Object.assign(new FakeReader('ada', [], `garbage-${i}`), { onWake }))
    }
  })
  await done
  expect(barriers).toBeLessThanOrEqual(2)
})

function append(window: Window) {
  return (entries: readonly Parameters<Window['append']>[0][]) => {
    for (const entry of entries) window.append(entry)
  }
}

test('an EventSource with the cursor of a restarted server gets the gap as an event (fault 14)', async () => {
  const before = testPool()
  const after = testPool()
  const first = await serveStreams({ pool: before, retry: 1 })
  const second = await serveStreams({ pool: after, retry: 1 })
  // After the restart, another process answers at the same URL.
  let origin = first.origin
  const source = new EventSource(`${first.origin}/?id=ada`, {
    fetch: (url, init) => fetch(String(url).replace(first.origin, origin), init as RequestInit),
  })
  onTestFinished(() => source.close())
  const opened = opening(before)
  const got = nextMessage(source, 'message')
  await opened
  await before.send('ada', 'one')
  const { lastEventId } = await got
  const gap = nextMessage(source, 'sse.gap')
  const live = nextMessage(source, 'message')
  origin = second.origin
  const reopened = opening(after)
  first.cut()
  const stream = await reopened
  expect(stream.lastEventId).toBe(lastEventId)
  expect((await gap).data).toBe('{"reason":"unknown"}')
  await after.send('ada', 'two')
  expect((await live).data).toBe('two')
})

const opening = (pool: ClientPool) =>
  new Promise<EventStream>(resolve => pool.once('open', resolve))

const nextMessage = (source: EventSource, name: string) =>
  new Promise<MessageEvent>(resolve =>
    source.addEventListener(name, event => resolve(event as MessageEvent), { once: true }),
  )
