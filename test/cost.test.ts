/**
 * Guards against slowdowns in a way that a busy machine cannot disturb: it counts what cost time in
 * the profile (encodings, buffers, writes, visits, hidden classes). Times are measured in bench/.
 */
import { once } from 'node:events'
import { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Context } from 'koa'
import type { PoolOptions } from 'koa-sse-pool'
import { Presence } from 'koa-sse-pool/presence'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Window } from '../src/delivery/window.js'
import { connect, serveStreams, type TestClient, testPool } from './helpers/server.js'

const CLIENTS = 40

/** Many clients, and what was written to each of them since the last `count()`. */
async function open(options: PoolOptions = {}) {
  const serialize = vi.fn(JSON.stringify)
  const pool = testPool({ serialize, ...options })
  const contexts: Context[] = []
  const { origin } = await serveStreams(
    { pool, channels: () => ['news'] },
    ctx => void contexts.push(ctx),
  )
  const writes = new Map<Socket, Buffer[]>()
  const write = vi.spyOn(Socket.prototype, 'write').mockImplementation(function (
    this: Socket,
    ...args
  ) {
    if (isServers(this)) writes.set(this, [...(writes.get(this) ?? []), args[0] as Buffer])
    return original.apply(this, args)
  })
  onTestFinished(() => write.mockRestore())
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, i) => connect(origin, `/?id=client-${i}`)),
  )
  const count = () => {
    serialize.mockClear()
    writes.clear()
  }
  count()
  const allHave = (text: string) => Promise.all(clients.map(client => client.until(has(text))))
  const chunks = () => [...writes.values()].flat()
  return { pool, origin, clients, contexts, serialize, writes, chunks, count, allHave }
}

const original = Socket.prototype.write

const isServers = (socket: unknown) => Boolean((socket as { server?: unknown }).server)

const has = (text: string) => (client: TestClient) => client.text.includes(text)

describe('a broadcast', () => {
  test('is encoded once, framed once, and written once to each socket', async () => {
    const { pool, serialize, writes, chunks, allHave } = await open()
    void pool.broadcast({ event: 'update', data: { count: 42 } })
    await allHave('"count":42')
    expect(serialize).toHaveBeenCalledTimes(1)
    expect(writes.size).toBe(CLIENTS)
    // `res.write` would cost twice as much: several chunks, framed again for each client.
    expect(chunks()).toHaveLength(CLIENTS)
    expect(new Set(chunks()).size).toBe(1)
  })

  test('of several entries in one turn is still one write of one buffer', async () => {
    const { pool, serialize, chunks, allHave } = await open()
    for (let i = 1; i <= 16; i++) void pool.broadcast({ data: { count: i } })
    await allHave('"count":16')
    expect(serialize).toHaveBeenCalledTimes(16)
    expect(chunks()).toHaveLength(CLIENTS)
    expect(new Set(chunks()).size).toBe(1)
  })

  test('together with a channel and a client in one turn is one write to each socket', async () => {
    const { pool, chunks, allHave } = await open()
    void pool.broadcast('to all')
    void pool.channel('news').send('to the channel')
    void pool.send('client-7', 'to one')
    await allHave('to the channel')
    expect(chunks()).toHaveLength(CLIENTS)
  })
})

test('a targeted send visits one stream, however many there are', async () => {
  const { pool, clients, chunks } = await open()
  const visits = vi.spyOn(Window.prototype, 'next')
  onTestFinished(() => visits.mockRestore())
  await pool.send('client-7', 'to one')
  await clients[7]?.until(has('to one'))
  expect(chunks()).toHaveLength(1)
  // The second visit finds that nothing more is waiting.
  expect(visits.mock.calls.length).toBeLessThanOrEqual(2)
})

test('clients that return with the same cursor share one buffer', async () => {
  const { pool, origin, count, chunks, allHave } = await open()
  const cursor = await pool.broadcast('before')
  for (let i = 1; i <= 100; i++) void pool.broadcast(`missed ${i}`)
  await pool.broadcast('the last')
  await allHave('the last')
  count()
  const back = await Promise.all(
    Array.from({ length: 5 }, (_, i) =>
      connect(origin, `/?id=back-${i}`, { headers: { 'Last-Event-ID': cursor } }),
    ),
  )
  for (const client of back) await client.until(has('the last'))
  const replays = chunks().filter(chunk => chunk.includes('missed 1\n'))
  expect(replays).toHaveLength(5)
  expect(new Set(replays).size).toBe(1)
})

describe('a stream that opens', () => {
  test('gets headers, first bytes, direct sends and its cursor as one packet', async () => {
    const packets = vi.spyOn(Socket.prototype, '_writev')
    const singles = vi.spyOn(Socket.prototype, '_write')
    onTestFinished(() => {
      packets.mockRestore()
      singles.mockRestore()
    })
    const pool = testPool()
    const { origin } = await serveStreams({ pool }, ctx => void ctx.sse.send('ready'))
    const client = await connect(origin, '/?id=ada')
    await client.until(has('sse.cursor'))
    expect(packets.mock.contexts.filter(isServers)).toHaveLength(1)
    // Headers, first bytes, the direct send and the cursor, each already framed.
    expect(packets.mock.calls[0]?.[0]).toHaveLength(4)
    expect(singles.mock.contexts.filter(isServers)).toHaveLength(0)
  })

  test('adds no timer and only one listener', async () => {
    const { pool, origin, contexts } = await open()
    const timers = () => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
    const before = timers()
    await connect(origin, '/?id=ada')
    // A timer of the test runner may end meanwhile.
    expect(timers()).toBeLessThanOrEqual(before)
    const { res } = contexts.at(-1) as Context
    expect(res.listenerCount('close')).toBe(1)
    expect(pool.connections).toBe(CLIENTS + 1)
  })

  test('leaves its context a hidden class that all contexts share, not a dictionary', async () => {
    const { contexts } = await open()
    expect(isDictionary(contexts[10])).toBe(false)
    expect(isDictionary(Object.create(null))).toBe(true)
  })
})

test('a heartbeat is one buffer for all streams, and none is sent to streams that were just written to', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  const { pool, clients, chunks, count } = await open({ pingInterval: 1000 })
  await pool.send('client-7', 'to one')
  await clients[7]?.until(has('to one'))
  count()
  vi.advanceTimersByTime(1000)
  // A busy machine may need more than one slice.
  while (chunks().length < CLIENTS - 1) await turn()
  await turn()
  expect(chunks()).toHaveLength(CLIENTS - 1)
  expect(new Set(chunks()).size).toBe(1)
})

test('a member that joins or leaves costs the same however many there are', async () => {
  const presence = new Presence({ pool: testPool(), grace: 0 })
  onTestFinished(() => presence.close())
  await presence.ready()
  let leave = () => {}
  const closed = new Promise<void>(resolve => {
    leave = resolve
  })
  const forever = new Promise<void>(() => {})
  const grow = async (from: number, to: number) => {
    for (let id = from; id < to; id++) presence.track({ id: String(id), closed: forever }, 'room')
    while (presence.members('room').length < to) await turn()
  }
  await grow(0, 100)
  const { reads, stop } = countMapReads()
  onTestFinished(stop)
  const before = reads()
  presence.track({ id: 'ada', closed }, 'room')
  await once(presence, 'join')
  const few = reads() - before
  await grow(100, 2000)
  const later = reads()
  presence.track({ id: 'bob', closed }, 'room')
  await once(presence, 'join')
  leave()
  await once(presence, 'leave')
  expect(reads() - later).toBeLessThan(10 * few)
})

/** Counts what is looked up in Maps and what is iterated over. */
function countMapReads() {
  let count = 0
  const iterator = Object.getPrototypeOf(new Map().keys()) as Iterator<unknown>
  const { next } = iterator
  const { get } = Map.prototype
  iterator.next = function () {
    count += 1
    return next.call(this)
  }
  Map.prototype.get = function (key) {
    count += 1
    return get.call(this, key)
  }
  const stop = () => {
    iterator.next = next
    Map.prototype.get = get
  }
  return { reads: () => count, stop }
}

/** Asks V8 itself. */
function isDictionary(object: unknown): boolean {
  setFlagsFromString('--allow-natives-syntax')
  const answer = runInNewContext('object => !%HasFastProperties(object)')(object)
  setFlagsFromString('--no-allow-natives-syntax')
  return answer
}
