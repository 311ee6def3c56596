import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, PollAnswer, PoolEntry } from 'koa-sse-pool'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { nextOpen } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const dataOf = (entries: readonly PoolEntry[]) => entries.map(({ data }) => data)

async function take(events: AsyncGenerator<PoolEntry>, count: number): Promise<PoolEntry[]> {
  const taken: PoolEntry[] = []
  while (taken.length < count) {
    const { value, done } = await events.next()
    if (done) throw new Error(`it ended after ${taken.length}`)
    taken.push(value)
  }
  return taken
}

async function all(events: AsyncGenerator<PoolEntry>): Promise<PoolEntry[]> {
  const taken: PoolEntry[] = []
  for await (const entry of events) taken.push(entry)
  return taken
}

describe('pool.events', () => {
  test('reads what is for a client, for its channels and for everyone, in order', async () => {
    const pool = testPool()
    const events = pool.events({ id: 'ada', channels: ['news'] })
    const ids = [
      await pool.broadcast({ event: 'update', data: { count: 1 }, retry: 5 }),
      await pool.send('ada', 'two\nlines'),
      await pool.channel('news').send(''),
    ]
    void pool.send('bob', 'not for her')
    void pool.channel('sport').send('not for her')
    expect(await take(events, 3)).toEqual([
      { id: ids[0], event: 'update', data: '{"count":1}', retry: 5 },
      { id: ids[1], event: 'message', data: 'two\nlines' },
      { id: ids[2], event: 'message', data: '' },
    ])
  })

  test('misses nothing from the call on, even before it is first read', async () => {
    const pool = testPool()
    const events = pool.events()
    for (let i = 0; i < 100; i++) void pool.broadcast(String(i))
    expect(dataOf(await take(events, 100))).toEqual(Array.from({ length: 100 }, (_, i) => `${i}`))
  })

  test('waits for the next event', async () => {
    const pool = testPool()
    const next = pool.events({ id: 'ada' }).next()
    await turn()
    await pool.send('ada', 'hello')
    expect((await next).value).toMatchObject({ data: 'hello' })
  })

  test('leaves out broadcasts if asked to', async () => {
    const pool = testPool()
    const events = pool.events({ channels: ['news'], everyone: false })
    await pool.broadcast('to all')
    await pool.channel('news').send('news')
    expect(dataOf(await take(events, 1))).toEqual(['news'])
  })

  test('continues after an id, as a stream does', async () => {
    const pool = testPool()
    const since = await pool.broadcast('one')
    await pool.broadcast('two')
    expect(dataOf(await take(pool.events({}, { since }), 1))).toEqual(['two'])
    expect(dataOf(await take(pool.events({}, { replay: 'all' }), 2))).toEqual(['one', 'two'])
  })

  test('reports a gap, first for an id of no log, then for what it was too slow for', async () => {
    const pool = testPool({ window: { events: 10 } })
    const events = pool.events({}, { since: 'of-another-log' })
    const [first] = await take(events, 1)
    expect(first).toMatchObject({ event: 'sse.gap', data: '{"reason":"unknown"}' })
    for (let i = 0; i < 50; i++) void pool.broadcast(String(i))
    const last = await pool.broadcast('last')
    const [second] = await take(events, 1)
    expect(second).toEqual({ event: 'sse.gap', id: last, data: '{"reason":"lagged"}' })
    await pool.broadcast('next')
    expect(dataOf(await take(events, 1))).toEqual(['next'])
    expect(pool.stats().gaps).toBe(2)
  })

  test('keeps a channel without other members, even when its entries leave the window', async () => {
    const pool = testPool({ window: { events: 1 } })
    const events = pool.events({ channels: ['news'], everyone: false })
    await pool.channel('news').send('one')
    expect(dataOf(await take(events, 1))).toEqual(['one'])
    await pool.send('nobody', 'x')
    await pool.send('nobody', 'x')
    await pool.channel('news').send('two')
    expect(dataOf(await take(events, 1))).toEqual(['two'])
  })

  test('ends with the close event when the client is removed', async () => {
    const pool = testPool()
    const events = pool.events({ id: 'ada' })
    await pool.send('ada', 'last')
    await pool.remove('ada', { why: 'banned' })
    const entries = await all(events)
    expect(entries.at(-1)).toEqual({ id: 'sse.end', event: 'close', data: '{"why":"banned"}' })
    expect(dataOf(entries)).toEqual(['last', '{"why":"banned"}'])
  })

  test('ends when its signal aborts, before, while and after it waits', async () => {
    const pool = testPool()
    expect(await all(pool.events({}, { signal: AbortSignal.abort() }))).toEqual([])
    const controller = new AbortController()
    const read = all(pool.events({}, { signal: controller.signal }))
    await turn()
    controller.abort()
    expect(await read).toEqual([])
  })

  test('ends when the pool closes, and at once if it already has', async () => {
    const pool = testPool()
    const read = all(pool.events())
    await turn()
    await pool.close()
    expect(await read).toEqual([])
    expect(await all(pool.events())).toEqual([])
  })

  test('is no client: it takes no place and is not counted', async () => {
    const pool = testPool({ maxClients: 1 })
    const { origin } = await serveStreams({ pool })
    const events = pool.events({ id: 'ada' })
    expect([pool.size, pool.connections, pool.has('ada')]).toEqual([0, 0, false])
    const client = await connect(origin, '/?id=ada')
    await pool.send('ada', 'hello')
    await client.until(({ data }) => data.includes('hello'))
    expect(dataOf(await take(events, 1))).toEqual(['hello'])
    client.close()
  })

  test('refuses unknown options and wrong values', () => {
    const pool = testPool()
    expect(() => pool.events({ id: '' })).toThrow(TypeError)
    expect(() => pool.events({ channels: ['a\nb'] })).toThrow(TypeError)
    expect(() => pool.events({ chanels: [] } as never)).toThrow('did you mean "channels"')
    expect(() => pool.events({}, { sins: '' } as never)).toThrow('did you mean "since"')
  })
})

describe('a long poll', () => {
  async function serve(options: { pool?: ClientPool; resume?: boolean } = {}) {
    const pool = options.pool ?? testPool()
    const { origin } = await serveStreams({ pool, longPoll: true, channels: () => ['news'] })
    const poll = async (cursor = '', path = '/?id=ada') => {
      const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
      const response = await fetch(`${origin}${path}`, { headers })
      const answer = response.status === 200 ? ((await response.json()) as PollAnswer) : undefined
      return { response, answer: answer as PollAnswer }
    }
    return { pool, origin, poll }
  }

  test('without a cursor is told at once where to continue', async () => {
    const { pool, poll } = await serve()
    const { answer, response } = await poll()
    expect(answer.events).toEqual([])
    expect(answer.cursor).not.toBe('')
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(response.headers.get('vary')).toBe('Accept')
    await pool.send('ada', 'missed')
    expect(dataOf((await poll(answer.cursor)).answer.events)).toEqual(['missed'])
  })

  test('waits for the next event of the client, a channel or everyone', async () => {
    const { pool, poll } = await serve()
    let { cursor } = (await poll()).answer
    for (const send of [
      () => pool.send('ada', 'hello'),
      () => pool.channel('news').send('hello'),
      () => pool.broadcast('hello'),
    ]) {
      const next = poll(cursor)
      while (pool.stats().polls === 0) await turn()
      const id = await send()
      const { answer } = await next
      expect(answer).toEqual({ cursor: id, events: [{ id, event: 'message', data: 'hello' }] })
      cursor = answer.cursor
    }
    expect(pool.stats().polls).toBe(0)
  })

  test('gets each event once and in order, even mixed with a stream', async () => {
    const { pool, origin, poll } = await serve()
    let { cursor } = (await poll()).answer
    const got: string[] = []
    for (let i = 0; i < 50; i++) {
      for (let j = 0; j < 20; j++) void pool.send('ada', `${i * 20 + j}`)
      const { answer } = await poll(cursor)
      got.push(...dataOf(answer.events))
      cursor = answer.cursor
    }
    expect(got).toEqual(Array.from({ length: 1000 }, (_, i) => `${i}`))
    await pool.send('ada', 'by stream')
    const client = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': cursor } })
    await client.until(({ data }) => data.includes('by stream'))
    expect(client.data).toEqual(['by stream'])
  })

  test('is answered with nothing after 25 seconds and continues from the same place', async () => {
    const { pool, poll } = await serve()
    const { cursor } = (await poll()).answer
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const next = poll(cursor)
    while (pool.stats().polls === 0) await turn()
    vi.advanceTimersByTime(25_000)
    expect((await next).answer).toEqual({ cursor, events: [] })
  })

  test('reports a gap', async () => {
    const { poll } = await serve()
    const { answer } = await poll('of-another-log')
    expect(answer.events).toMatchObject([{ event: 'sse.gap', data: '{"reason":"unknown"}' }])
    expect(answer.events[0]?.id).toBe(answer.cursor)
  })

  test('of a removed client ends with the close event, and the next one is answered with 204', async () => {
    const { pool, poll } = await serve()
    const { cursor } = (await poll()).answer
    const next = poll(cursor)
    while (pool.stats().polls === 0) await turn()
    await pool.remove('ada')
    const { answer } = await next
    expect(answer).toEqual({
      cursor: 'sse.end',
      events: [{ id: 'sse.end', event: 'close', data: '' }],
    })
    expect((await poll(answer.cursor)).response.status).toBe(204)
  })

  test('is released when its client leaves', async () => {
    const { pool, origin, poll } = await serve()
    const { cursor } = (await poll()).answer
    const controller = new AbortController()
    const { signal } = controller
    const headers = { Accept: 'application/json', 'Last-Event-ID': cursor }
    const next = fetch(`${origin}/?id=ada`, { headers, signal }).catch(() => 'aborted')
    while (pool.stats().polls === 0) await turn()
    controller.abort()
    expect(await next).toBe('aborted')
    while (pool.stats().polls > 0) await turn()
  })

  test('is answered when the pool closes, and refused once it has', async () => {
    const { pool, poll } = await serve()
    const { cursor } = (await poll()).answer
    const next = poll(cursor)
    while (pool.stats().polls === 0) await turn()
    await pool.close()
    expect((await next).answer).toEqual({ cursor, events: [] })
    expect((await poll(cursor)).response.status).toBe(503)
  })

  test('becomes a stream for clients that prefer one', async () => {
    const { pool, origin } = await serve()
    const opened = nextOpen(pool)
    const Accept = 'text/event-stream, application/json;q=0.5'
    const client = await connect(origin, '/?id=ada', { headers: { Accept } })
    expect((await opened).id).toBe('ada')
    expect(client.headers['content-type']).toContain('text/event-stream')
  })

  test('is refused if the option is not set', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const { status } = await fetch(origin, { headers: { Accept: 'application/json' } })
    expect(status).toBe(406)
  })
})
