/** The cursor that a long poll is given to continue from. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, PollAnswer, PoolOptions } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { hubOf } from '../../src/pool/hub.js'
import type { Subscription } from '../../src/pool/subscription.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const never = () => new Promise<void>(() => {})

async function serve(log: FakeLog | undefined) {
  const pool = testPool(log ? { log } : {})
  const { origin } = await serveStreams({ pool, longPoll: true })
  const poll = async (cursor = '') => {
    const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
    const response = await fetch(`${origin}/?id=ada`, { headers })
    return (await response.json()) as PollAnswer
  }
  return { pool, origin, poll }
}

describe('a long poll', () => {
  test('keeps its cursor when nothing could be decided, or the next one would skip what it missed', async () => {
    const log = new FakeLog()
    const { pool, poll } = await serve(log)
    await pool.broadcast('one')
    log.beforeBarrier = never
    const next = poll('77')
    while (pool.stats().polls === 0) await turn()
    await pool.close()
    expect(await next).toEqual({ cursor: '77', events: [] })
  })

  test('without a cursor is held back by an empty log, or the client would ask in a busy loop', async () => {
    const { pool, poll } = await serve(new FakeLog())
    const next = poll()
    const first = await Promise.race([
      next,
      (async () => {
        while (pool.stats().polls === 0) await turn()
        for (let i = 0; i < 50; i++) await turn()
        return 'held back'
      })(),
    ])
    expect(first).toBe('held back')
    await pool.broadcast('one')
    expect((await next).cursor).toBe('1')
  })

  test('with a cursor of another log, and nothing in this one, gets the gap once', async () => {
    const { poll } = await serve(new FakeLog())
    const { events, cursor } = await poll('77')
    expect(events).toMatchObject([{ event: 'sse.gap' }])
    expect(cursor).toBe('')
  })

  test('is answered at once if it is HEAD, and gets no events', async () => {
    const { pool, origin } = await serve(undefined)
    const headers = { Accept: 'application/json', 'Last-Event-ID': await pool.broadcast('x') }
    const answer = fetch(`${origin}/?id=ada`, { method: 'HEAD', headers })
    expect((await answer).status).toBe(200)
  })
})

test('a long poll that closes in a burst gets the id of its last entry, though that has left the window', async () => {
  const pool = testPool({ window: { events: 4 } })
  const { origin } = await serveStreams({ pool, longPoll: true })
  const next = fetch(`${origin}/?id=ada&lastEventId=${await pool.broadcast('0')}`, {
    headers: { Accept: 'application/json' },
  })
  while (pool.stats().polls === 0) await turn()
  for (let i = 1; i <= 12; i++) void pool.broadcast(`${i}`)
  // As the pool does when it closes, before the poll has had its turn.
  for (const poll of hubOf(pool).readers()) (poll as Subscription).close()
  const { cursor, events } = (await (await next).json()) as PollAnswer
  expect(events.length).toBeGreaterThan(0)
  expect(events.length).toBeLessThan(12)
  expect(cursor).toBe(events.at(-1)?.id)
})

describe('a long poll takes a place while it waits (fault 72):', () => {
  const POLL = { headers: { Accept: 'application/json' } }

  /** A pool in which clients can be connected by streams and by polls that wait. */
  async function serveBoth(options: PoolOptions) {
    const pool = testPool(options)
    const { origin } = await serveStreams({ pool, longPoll: true })
    const cursor = await pool.broadcast('before')
    const poll = async (id: string, signal?: AbortSignal) => {
      const url = `${origin}/?id=${id}&lastEventId=${cursor}`
      const response = await fetch(url, { ...POLL, ...(signal && { signal }) })
      return (await response.json()) as PollAnswer
    }
    return { pool, origin, poll }
  }
  const waiting = async (pool: ClientPool, polls: number) => {
    while (pool.stats().polls !== polls) await turn()
  }

  test('of maxClients, until it is answered', async () => {
    const { pool, origin, poll } = await serveBoth({ maxClients: 1 })
    const answer = poll('ada')
    await waiting(pool, 1)
    expect((await connect(origin, '/?id=bob')).status).toBe(503)
    expect((await fetch(`${origin}/?id=bob`, POLL)).status).toBe(503)
    await pool.send('ada', 'hello')
    expect((await answer).events).toMatchObject([{ data: 'hello' }])
    expect((await connect(origin, '/?id=bob')).status).toBe(200)
    expect((await fetch(`${origin}/?id=ada`, POLL)).status).toBe(503)
    expect(pool.stats().refused.full).toBe(3)
  })

  test('of maxClients, until its client leaves', async () => {
    const { pool, origin, poll } = await serveBoth({ maxClients: 1 })
    const controller = new AbortController()
    poll('ada', controller.signal).catch(() => {})
    await waiting(pool, 1)
    controller.abort()
    await waiting(pool, 0)
    expect((await connect(origin, '/?id=bob')).status).toBe(200)
  })

  test('of maxStreamsPerClient, where a newer stream or poll replaces it', async () => {
    const { pool, origin, poll } = await serveBoth({ maxStreamsPerClient: 1 })
    const first = poll('ada')
    await waiting(pool, 1)
    const second = poll('ada')
    const ended = { cursor: 'sse.end', events: [{ id: 'sse.end', event: 'close', data: '' }] }
    expect(await first).toEqual(ended)
    await waiting(pool, 1)
    const client = await connect(origin, '/?id=ada')
    expect(await second).toEqual(ended)
    const third = poll('ada')
    expect((await client.event('close')).id).toBe('sse.end')
    expect(pool.stats().closed.replaced).toBe(1)
    await pool.send('ada', 'hello')
    expect((await third).events).toMatchObject([{ data: 'hello' }])
  })

  test('of maxStreamsPerClient, where a newer one is refused', async () => {
    const { pool, origin, poll } = await serveBoth({
      maxStreamsPerClient: 1,
      onDuplicate: 'reject',
    })
    poll('ada').catch(() => {})
    await waiting(pool, 1)
    expect((await connect(origin, '/?id=ada')).status).toBe(429)
    expect((await fetch(`${origin}/?id=ada`, POLL)).status).toBe(429)
    expect((await connect(origin, '/?id=bob')).status).toBe(200)
    expect(pool.stats().refused.duplicate).toBe(2)
  })

  test('but HEAD takes none, and replaces nothing', async () => {
    const { pool, origin } = await serveBoth({ maxStreamsPerClient: 1 })
    const client = await connect(origin, '/?id=ada')
    expect((await fetch(`${origin}/?id=ada`, { ...POLL, method: 'HEAD' })).status).toBe(200)
    await pool.send('ada', 'still here')
    await client.until(({ data }) => data.includes('still here'))
  })
})
