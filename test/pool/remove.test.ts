/** Ending many streams: the members of a channel on all processes, and a choice of this process. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, EventStream, RouteOptions } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { deferred, nextOpen, watchCloses } from '../helpers/app.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** Streams join the channels of the query: `?id=ada&in=news,sports`. */
async function serve(pool: ClientPool, route: RouteOptions = {}) {
  const channels: RouteOptions['channels'] = ctx =>
    String(ctx.query.in ?? '')
      .split(',')
      .filter(Boolean)
  return serveStreams({ pool, channels, ...route })
}

async function serveOne(route: RouteOptions = {}, events = 10_000) {
  const pool = testPool({ window: { events } })
  return { pool, ...(await serve(pool, route)) }
}

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

describe('removeAll() of a channel', () => {
  test('ends its streams on all processes, after what was sent before, and no others', async () => {
    const log = sharedLog()
    const [near, far] = [testPool({ log: log.open() }), testPool({ log: log.open() })]
    const [here, there] = [await serve(near), await serve(far)]
    const ada = await connect(here.origin, '/?id=ada&in=news')
    const bob = await connect(there.origin, '/?id=bob&in=sports,news')
    const others = [
      await connect(here.origin, '/?id=ada&in=sports'),
      await connect(there.origin, '/?id=news'),
    ]
    const sent = near.channel('news').send('before')
    const removed = near.channel('news').removeAll({ why: 'revoked' })
    await near.channel('news').send('after')
    expect(Number(await removed)).toBe(Number(await sent) + 1)
    for (const client of [ada, bob]) {
      expect(await client.ended).toBe(true)
      expect(client.messages.map(({ event, data }) => [event, data])).toEqual([
        [undefined, 'before'],
        ['close', '{"why":"revoked"}'],
      ])
      expect(client.lastEventId).toBe('sse.end')
    }
    await far.broadcast('still here')
    for (const client of others) await client.until(({ data }) => data.includes('still here'))
    expect(near.stats()).toMatchObject({ streams: 1, closed: { removed: 1 }, foreign: 0 })
    expect(far.stats()).toMatchObject({ streams: 1, closed: { removed: 1 }, foreign: 0 })
  })

  test('ends a page that was just reconnecting, and lets new ones in', async () => {
    const { pool, origin } = await serveOne({ replay: 'all' })
    const cursor = await pool.broadcast('seen')
    await pool.channel('news').removeAll()
    await pool.broadcast('later')
    const back = await connect(origin, '/?id=ada&in=news', resumeWith(cursor))
    await back.ended
    expect(back.messages.map(({ event }) => event)).toEqual(['close'])
    const elsewhere = await connect(origin, '/?id=ada&in=sports', resumeWith(cursor))
    await elsewhere.until(({ data }) => data.includes('later'))
    const fresh = await connect(origin, '/?id=ada&in=news')
    await pool.channel('news').send('live')
    await fresh.until(({ data }) => data.includes('live'))
    expect(fresh.data).toEqual(['seen', 'later', 'live'])
  })

  test('ends a page that comes back with a cursor that has left the window', async () => {
    const { pool, origin } = await serveOne({}, 2)
    const cursor = await pool.broadcast('seen')
    await pool.channel('news').removeAll()
    await pool.broadcast('later')
    await pool.broadcast('latest').then(() => pool.channel('news').removeAll())
    const back = await connect(origin, '/?id=ada&in=news', resumeWith(cursor))
    await back.ended
    expect(back.events.map(({ event }) => event)).toEqual(['close'])
    const elsewhere = await connect(origin, '/?id=ada', resumeWith(cursor))
    await elsewhere.event('sse.gap')
  })

  test('ends a slow stream that was in the channel, though the entry left the window', async () => {
    const { pool, origin } = await serveOne({}, 2)
    const closes = watchCloses(pool)
    const opened = nextOpen(pool)
    const client = await connect(origin, '/?id=ada&in=news')
    await opened
    const stream = streamOf(pool, 'ada')
    client.response.pause()
    while (!stream.isBlocked) {
      stream.face.send('filler'.padEnd(65_536, '.'))
      await turn()
    }
    await pool.channel('news').removeAll()
    for (let i = 0; i < 5; i++) await pool.send('bob', 'for another')
    client.response.resume()
    expect(await closes.next).toBe('removed')
  })

  test('does not end streams that have left the channel or join it later', async () => {
    const { pool, origin } = await serveOne()
    const streams: EventStream[] = []
    pool.on('open', stream => streams.push(stream))
    const left = await connect(origin, '/?id=ada&in=news')
    const late = await connect(origin, '/?id=bob')
    streams[0]?.leave('news')
    await pool.channel('news').removeAll()
    streams[1]?.join('news')
    await pool.channel('news').send('news')
    await late.until(({ data }) => data.includes('news'))
    await pool.send('ada', 'still here')
    await left.until(({ data }) => data.includes('still here'))
    expect(pool.stats().streams).toBe(2)
  })

  test('ends iterations and polls of clients in the channel, but no iteration of the app', async () => {
    const { pool, origin } = await serveOne({ longPoll: true })
    const since = await pool.broadcast('before')
    const poll = fetch(`${origin}/?id=ada&in=news&lastEventId=${since}`, {
      headers: { Accept: 'application/json' },
    })
    while (pool.stats().polls === 0) await turn()
    const ofClient = pool.events({ id: 'bob', channels: ['news'] }, { since })
    const ofApp = pool.events({ channels: ['news'] }, { since })
    await pool.channel('news').removeAll()
    await pool.channel('news').send('after')
    const end = { event: 'close', data: '', id: 'sse.end' }
    expect(await (await poll).json()).toEqual({ cursor: 'sse.end', events: [end] })
    expect((await ofClient.next()).value).toEqual(end)
    expect((await ofClient.next()).done).toBe(true)
    expect(await ofApp.next()).toMatchObject({ value: { data: 'after' } })
    await ofApp.return(undefined)
  })

  test('rejects and throws like send', async () => {
    const pool = testPool({ maxEventBytes: 100 })
    pool.on('error', () => {})
    expect(() => pool.channel('news').removeAll('x'.repeat(100))).toThrow(/maxEventBytes/)
    expect(() => pool.channel('news').removeAll(() => {})).toThrow(TypeError)
    await pool.close()
    await expect(pool.channel('news').removeAll()).rejects.toMatchObject({
      code: 'ERR_SSE_POOL_CLOSED',
    })
  })
})

test('an entry of a kind that only a newer version knows is passed over', async () => {
  const log = sharedLog()
  const pool = testPool({ log: log.open() })
  const { origin } = await serve(pool)
  const client = await connect(origin, '/?id=ada&in=news')
  await log.open().append({ nonce: 'newer', target: '~news', frame: 'data:\n\n' })
  await pool.channel('news').send('after')
  await client.until(({ data }) => data.includes('after'))
  expect(client.data).toEqual(['after'])
  expect(pool.stats().foreign).toBe(0)
})

describe('removeWhere()', () => {
  test('ends the chosen streams of this process for good, and returns their number', async () => {
    const { pool, origin } = await serveOne()
    const guest = await connect(origin, '/?id=guest')
    const member = await connect(origin, '/?id=member')
    expect(pool.removeWhere(({ id }) => id === 'guest', 'Members only')).toBe(1)
    expect(await guest.ended).toBe(true)
    expect(await guest.event('close')).toMatchObject({ data: 'Members only', id: 'sse.end' })
    await pool.broadcast('still here')
    await member.until(({ data }) => data.includes('still here'))
    expect(pool.stats().closed.removed).toBe(1)
    expect(pool.removeWhere(() => false)).toBe(0)
  })

  test.each<[string, (stream: EventStream) => unknown, string]>([
    ['is async', async () => true, 'got a Promise'],
    ['returns undefined', () => undefined, 'got undefined'],
    [
      'throws',
      ({ id }) => {
        if (id === 'bob') throw new Error('unknown user')
        return true
      },
      'unknown user',
    ],
  ])('ends no stream if the function %s', async (_, isChosen, message) => {
    const { pool, origin } = await serveOne()
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=bob')
    expect(() => pool.removeWhere(isChosen as () => boolean)).toThrow(message)
    expect(pool.connections).toBe(2)
  })

  test('ends a stream whose handler still runs', async () => {
    const pool = testPool()
    const go = deferred()
    const { origin } = await serveStreams({ pool }, () => go.promise)
    const opened = nextOpen(pool)
    const connecting = connect(origin, '/?id=ada')
    const stream = await opened
    pool.removeWhere(() => true)
    go.resolve()
    const client = await connecting
    expect(await client.ended).toBe(true)
    expect((await client.event('close')).id).toBe('sse.end')
    expect(await stream.closed).toBe('removed')
  })
})
