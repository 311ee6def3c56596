/** Clients that are added to channels and taken out, on all processes. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, RouteOptions } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { MESSAGE } from '../../src/log/messages.js'
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

async function serveTwo() {
  const log = sharedLog()
  const [near, far] = [testPool({ log: log.open() }), testPool({ log: log.open() })]
  return { log, near, far, here: await serve(near), there: await serve(far) }
}

/** Resolves to what the client got before this event. */
async function dataUntil(client: TestClient, last: string): Promise<string[]> {
  await client.until(({ data }) => data.includes(last))
  return client.data.slice(0, client.data.indexOf(last))
}

describe('a client that is taken out of a channel', () => {
  test('gets what was sent to it before and nothing later, in all its streams, on all processes', async () => {
    const { near, far, here, there } = await serveTwo()
    const streams = [
      await connect(here.origin, '/?id=ada&in=news,sports'),
      await connect(there.origin, '/?id=ada&in=news'),
    ]
    const bob = await connect(there.origin, '/?id=bob&in=news')
    void near.channel('news').send('before')
    const removed = near.channel('news').remove('ada')
    void near.channel('news').send('after')
    await removed
    expect([near.channel('news').size, far.channel('news').size]).toEqual([0, 1])
    await near.channels('news', 'sports').send('sports')
    await near.broadcast('last')
    expect(await dataUntil(streams[0] as TestClient, 'last')).toEqual(['before', 'sports'])
    expect(await dataUntil(streams[1] as TestClient, 'last')).toEqual(['before'])
    expect(await dataUntil(bob, 'last')).toEqual(['before', 'after', 'sports'])
    expect(streamOf(near, 'ada').face.channels).toEqual(['sports'])
    expect(near.stats()).toMatchObject({ streams: 1, foreign: 0 })
  })

  test.each(['taken out', 'leaves'])(
    'gets what was sent before even if it is evicted in the same turn (%s)',
    async how => {
      const pool = testPool({ window: { events: 3 } })
      const { origin } = await serve(pool)
      const client = await connect(origin, '/?id=ada&in=news')
      void pool.channel('news').send('before')
      if (how === 'taken out') void pool.channel('news').remove('ada')
      else streamOf(pool, 'ada').face.leave('news')
      for (let i = 0; i < 8; i += 1) void pool.channel('nobody').send('filler')
      await pool.broadcast('last')
      expect(await dataUntil(client, 'last')).toEqual(['before'])
      expect(pool.stats()).toMatchObject({ gaps: 0 })
    },
  )

  test('gets what was sent before even if it is slow', async () => {
    const pool = testPool()
    const { origin } = await serve(pool)
    const client = await connect(origin, '/?id=ada&in=news')
    client.response.pause()
    const stream = streamOf(pool, 'ada')
    while (!stream.isBlocked) {
      stream.face.send('filler'.padEnd(65_536, '.'))
      await turn()
    }
    await pool.channel('news').send('before')
    await pool.channel('news').remove('ada')
    await pool.channel('news').send('after')
    client.response.resume()
    await pool.broadcast('last')
    const data = await dataUntil(client, 'last')
    expect(data.filter(text => !text.startsWith('filler'))).toEqual(['before'])
  })

  test('is in it again when it reconnects, if the route still says so', async () => {
    const { near, far, here, there } = await serveTwo()
    const client = await connect(here.origin, '/?id=ada&in=news')
    const cursor = await near.broadcast('seen')
    await client.until(({ data }) => data.includes('seen'))
    await near.channel('news').remove('ada')
    await near.channel('news').send('meanwhile')
    client.close()
    const back = await connect(there.origin, '/?id=ada&in=news', {
      headers: { 'Last-Event-ID': cursor },
    })
    await far.channel('news').send('live')
    expect(await dataUntil(back, 'live')).toEqual(['meanwhile'])
  })

  test('gets nothing later in a long poll that waits', async () => {
    const pool = testPool()
    const { origin } = await serve(pool, { longPoll: true })
    const since = await pool.broadcast('before')
    const poll = fetch(`${origin}/?id=ada&in=news&lastEventId=${since}`, {
      headers: { Accept: 'application/json' },
    })
    while (pool.stats().polls === 0) await turn()
    await pool.channel('news').remove('ada')
    await pool.channel('news').send('after')
    await pool.send('ada', 'own')
    const { events } = (await (await poll).json()) as { events: { data: string }[] }
    expect(events.map(({ data }) => data)).toEqual(['own'])
  })

  test('is out even if its process had to read the window again, and got no channel back by that', async () => {
    const log = sharedLog()
    const pool = testPool({ log: log.open() })
    const { origin } = await serve(pool)
    const ada = await connect(origin, '/?id=ada&in=news')
    const bob = await connect(origin, '/?id=bob&in=news')
    await pool.channel('news').remove('bob')
    await pool.channel('news').add('bob')
    await pool.broadcast('start')
    await dataUntil(bob, 'start')
    const [sink] = log.sinks
    log.state.isDeaf = true
    const writer = log.open()
    const append = (target: string, frame: string) =>
      writer.append({ nonce: `n${log.entries.length}`, target, frame })
    await append('#news', 'data: before\n\n')
    await append(
      MESSAGE,
      JSON.stringify({ topic: 'channel', body: { does: 'remove', channel: 'news', id: 'ada' } }),
    )
    await append('#news', 'data: after\n\n')
    await append('*', 'data: last\n\n')
    log.state.isDeaf = false
    sink?.reset(log.entries, 'trimmed')
    expect(await dataUntil(ada, 'last')).toEqual(['start', 'before'])
    expect(await dataUntil(bob, 'last')).toEqual(['start', 'before', 'after'])
    await pool.channel('news').send('live')
    await pool.broadcast('end')
    expect(await dataUntil(ada, 'end')).not.toContain('live')
    expect(await dataUntil(bob, 'end')).toContain('live')
  })
})

describe('a client that is added to a channel', () => {
  test('gets what is sent to it from then on, in all its streams, on all processes', async () => {
    const { near, far, here, there } = await serveTwo()
    const streams = [
      await connect(here.origin, '/?id=7'),
      await connect(there.origin, '/?id=7&in=news'),
    ]
    void near.channel('news').send('before')
    await far.channel('news').add(7)
    expect([near.channel('news').size, far.channel('news').size]).toEqual([1, 1])
    await near.channel('news').send('after')
    await near.broadcast('last')
    expect(await dataUntil(streams[0] as TestClient, 'last')).toEqual(['after'])
    expect(await dataUntil(streams[1] as TestClient, 'last')).toEqual(['before', 'after'])
  })

  test('gets nothing older even if it is slow', async () => {
    const pool = testPool()
    const { origin } = await serve(pool)
    const client = await connect(origin, '/?id=ada')
    client.response.pause()
    const stream = streamOf(pool, 'ada')
    while (!stream.isBlocked) {
      stream.face.send('filler'.padEnd(65_536, '.'))
      await turn()
    }
    await pool.channel('news').send('before')
    await pool.channel('news').add('ada')
    await pool.channel('news').send('after')
    client.response.resume()
    await pool.broadcast('last')
    const data = await dataUntil(client, 'last')
    expect(data.filter(text => !text.startsWith('filler'))).toEqual(['after'])
  })
})

test('a change of a client that is not connected leaves nothing behind', async () => {
  const pool = testPool()
  await pool.channel('news').add('ada')
  await pool.channel('news').remove('ada')
  expect(pool.channel('news').size).toBe(0)
  expect(pool.stats()).toMatchObject({ channels: 0, entries: 0, window: { events: 0 } })
})

test('a change resolves once this process has made it', async () => {
  const log = new FakeLog()
  log.acceptsMessages = true
  log.isLive = false
  const pool = testPool({ log })
  const { origin } = await serve(pool)
  await connect(origin, '/?id=ada')
  const added = pool.channel('news').add('ada')
  await turn()
  expect(pool.channel('news').size).toBe(0)
  log.deliver()
  await added
  expect(pool.channel('news').size).toBe(1)
})

test('what another version or program has written is passed over', async () => {
  const log = sharedLog()
  const pool = testPool({ log: log.open() })
  const { origin } = await serve(pool)
  const client = await connect(origin, '/?id=ada')
  const writer = log.open()
  for (const body of [
    null,
    1,
    {},
    { does: 'add' },
    { does: 'add', channel: 1, id: 'ada' },
    { does: 'swap', channel: 'news', id: 'ada' },
  ]) {
    const frame = JSON.stringify({ topic: 'channel', body })
    await writer.append({ nonce: `n${log.entries.length}`, target: MESSAGE, frame })
  }
  await pool.channel('news').send('news')
  await pool.broadcast('last')
  expect(await dataUntil(client, 'last')).toEqual([])
})

test('a wrong id throws, and a closed pool rejects', async () => {
  const pool = testPool()
  pool.on('error', () => {})
  expect(() => pool.channel('news').add('')).toThrow(/client id/)
  expect(() => pool.channel('news').remove('a\nb')).toThrow(/client id/)
  await pool.close()
  for (const change of [pool.channel('news').add('ada'), pool.channel('news').remove('ada')]) {
    await expect(change).rejects.toMatchObject({ code: 'ERR_SSE_POOL_CLOSED' })
  }
})
