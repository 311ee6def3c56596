/** Histories that are no longer whole: with `replay: 'all'`, a gap precedes what is left of them. */
import type { Entry, PoolEntry } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

const GAP = 'sse.gap {"reason":"trimmed"}'

const entry = (number: number, target: string): Entry => ({
  id: `${number}`,
  nonce: `${number}`,
  target,
  frame: `data: ${number}\n\n`,
})

async function serveRoom(events: number) {
  const pool = testPool({ window: { events } })
  const room = pool.channel('room')
  const { origin } = await serveStreams({
    pool,
    channels: () => ['room'],
    replay: 'all',
    longPoll: true,
  })
  return { pool, room, origin }
}

/** What a client received before a live event, without its cursors. */
async function history(client: TestClient): Promise<string[]> {
  await client.until(({ data }) => data.includes('live'))
  const events = client.events.filter(({ event }) => event !== 'sse.cursor')
  return events.map(({ event = 'message', data }) => `${event} ${data}`).slice(0, -1)
}

describe("a history for replay: 'all' that has lost its beginning (fault 101)", () => {
  test('comes after a gap, so that the rest does not look whole', async () => {
    const { pool, room, origin } = await serveRoom(3)
    for (const data of ['1', '2', '3', '4']) await room.send(data)
    const client = await connect(origin, '/?id=ada')
    await client.until(({ data }) => data.includes('4'))
    await room.send('live')
    expect(await history(client)).toEqual([GAP, 'message 2', 'message 3', 'message 4'])
    expect(pool.stats()).toMatchObject({ gaps: 1, closed: { slow: 0 } })
  })

  test('comes after a gap when the log had lost it before the process read the log', async () => {
    const log = new FakeLog()
    log.stored = [entry(7, '#room'), entry(8, '#room')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool, channels: () => ['room'], replay: 'all' })
    const client = await connect(origin, '/?id=ada')
    log.isLive = false
    log.stored.push({ ...entry(9, '#room'), frame: 'data: live\n\n' })
    log.deliver()
    expect(await history(client)).toEqual([GAP, 'message 7', 'message 8'])
  })

  test('gives no id with the gap, so that a client that is cut off there gets all of it again', async () => {
    const { room, origin } = await serveRoom(3)
    for (const data of ['1', '2', '3', '4']) await room.send(data)
    const client = await connect(origin, '/?id=ada')
    expect((await client.event('sse.gap')).id).toBeUndefined()
  })

  test('comes after a gap in a long poll and in an iteration', async () => {
    const { pool, room, origin } = await serveRoom(3)
    for (const data of ['1', '2', '3', '4']) await room.send(data)
    const answer = await fetch(`${origin}/?id=ada`, { headers: { Accept: 'application/json' } })
    const { cursor, events } = (await answer.json()) as { cursor: string; events: PoolEntry[] }
    const texts = (entries: PoolEntry[]) => entries.map(({ event, data }) => `${event} ${data}`)
    const expected = [GAP, 'message 2', 'message 3', 'message 4']
    expect(texts(events)).toEqual(expected)
    expect(cursor).toBe(events.at(-1)?.id)
    const iterated: PoolEntry[] = []
    for await (const one of pool.events({ channels: ['room'] }, { replay: 'all' })) {
      iterated.push(one)
      if (iterated.length === 4) break
    }
    expect(texts(iterated)).toEqual(expected)
  })
})

describe("a history for replay: 'all' that is whole", () => {
  test('comes without a gap, though entries of others have left the window', async () => {
    const { pool, room, origin } = await serveRoom(3)
    for (const data of ['1', '2', '3']) await pool.send('bob', data)
    for (const data of ['4', '5']) await room.send(data)
    const client = await connect(origin, '/?id=ada')
    await client.until(({ data }) => data.includes('5'))
    await room.send('live')
    expect(await history(client)).toEqual(['message 4', 'message 5'])
    expect(pool.stats().gaps).toBe(0)
  })

  test('comes without a gap when it began after the process had read the rest of the log', async () => {
    const log = new FakeLog()
    log.stored = [entry(7, '@bob')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool, channels: () => ['room'], replay: 'all' })
    log.stored.push(entry(8, '#room'))
    log.deliver()
    const client = await connect(origin, '/?id=ada')
    log.stored.push({ ...entry(9, '#room'), frame: 'data: live\n\n' })
    log.deliver()
    expect(await history(client)).toEqual(['message 8'])
  })

  test("has no gap with replay: 'latest', which wants the newest only", async () => {
    const pool = testPool({ window: { events: 2 } })
    const { origin } = await serveStreams({ pool, replay: 'latest' })
    for (const data of ['1', '2', '3']) await pool.broadcast(data)
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('live')
    expect(await history(client)).toEqual(['message 3'])
  })
})
