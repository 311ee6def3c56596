/** What must not come back when the window is refilled. */
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { deferred, nextOpen, watchCloses } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const entry = (id: string, target: string) => ({ id, target, nonce: id, frame: `data: ${id}\n\n` })

test('a channel joined while behind is not replayed when the window is filled again', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*')]
  const pool = testPool({ log })
  const go = deferred()
  const { origin } = await serveStreams({ pool }, () => go.promise)
  const opened = nextOpen(pool)
  const connecting = connect(origin, '/?id=ada')
  const stream = await opened
  await pool.channel('news').send('before')
  stream.join('news')
  log.reset('trimmed')
  go.resolve()
  const client = await connecting
  await pool.channel('news').send('live')
  await client.until(({ data }) => data.includes('live'))
  expect(client.data).toEqual(['live'])
})

test('a removal from before it came does not end a stream with replay: all when the window is filled again', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*'), entry('2', '-ada'), entry('3', '*')]
  const pool = testPool({ log })
  const closes = watchCloses(pool)
  const go = deferred()
  const { origin } = await serveStreams({ pool, replay: 'all' }, () => go.promise)
  const opened = nextOpen(pool)
  const connecting = connect(origin, '/?id=ada')
  await opened
  log.reset('trimmed')
  go.resolve()
  const client = await connecting
  await client.until(({ text }) => text.includes('id: '))
  await turn()
  expect(closes.reasons).toEqual([])
})

test('a blocked reader still meets a removal from before the log was replaced', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*')]
  const pool = testPool({ log })
  const closes = watchCloses(pool)
  const { origin } = await serveStreams({ pool })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  await opened
  const stream = streamOf(pool, 'ada')
  client.response.pause()
  while (!stream.isBlocked) {
    stream.face.send('filler'.padEnd(65_536, '.'))
    await turn()
  }
  await pool.remove('ada')
  log.stored = []
  log.sink.reset([entry('9', '*')], 'replaced')
  client.response.resume()
  expect(await closes.next).toBe('removed')
})

test('a blocked reader is told of a gap when the log was set back behind what it had still to read', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*')]
  const pool = testPool({ log })
  const { origin } = await serveStreams({ pool })
  const [ada, bob] = [await connect(origin, '/?id=ada'), await connect(origin, '/?id=bob')]
  for (const client of [ada, bob]) {
    client.response.pause()
    const stream = streamOf(pool, client === ada ? 'ada' : 'bob')
    while (!stream.isBlocked) {
      stream.face.send('filler'.padEnd(65_536, '.'))
      await turn()
    }
  }
  await pool.broadcast('kept')
  await pool.send('ada', 'lost')
  log.stored.pop()
  log.reset('replaced')
  for (const { response } of [ada, bob]) response.resume()
  await ada.event('sse.gap')
  await pool.broadcast('last')
  for (const client of [ada, bob]) await client.until(({ data }) => data.includes('last'))
  const seen = ({ events }: typeof ada) =>
    events.map(({ event, data }) => event ?? data).filter(text => !text.startsWith('filler'))
  expect(seen(ada).filter(text => text !== 'sse.cursor')).toEqual(['sse.gap', 'last'])
  expect(seen(bob).filter(text => text !== 'sse.cursor')).toEqual(['kept', 'last'])
})

test('a send in flight and a direct send after it arrive once each when the window is refilled', async () => {
  const log = new FakeLog()
  const pool = testPool({ log })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  for (const data of ['1', '2', '3']) await pool.broadcast(data)
  await client.until(({ data }) => data.length === 3)
  log.isLive = false
  void pool.broadcast('pool')
  streamOf(pool, 'ada').face.send('direct')
  await turn()
  log.reset('trimmed')
  log.isLive = true
  await pool.broadcast('last')
  await client.until(({ data }) => data.includes('last'))
  expect(client.data).toEqual(['1', '2', '3', 'pool', 'direct', 'last'])
})

test('last words before end() arrive, though the window is refilled before the stream opens', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '')]
  const pool = testPool({ log })
  const { origin } = await serveStreams({ pool }, async ctx => {
    await pool.send('ada', 'last words')
    ctx.sse.end()
    log.reset('trimmed')
  })
  const client = await connect(origin, '/?id=ada')
  await client.ended
  expect(client.data).toEqual(['last words', ''])
})

describe('a stream that has not opened yet when the window is refilled', () => {
  async function open(log: FakeLog, replay: 'all' | 'latest') {
    const pool = testPool({ log })
    const go = deferred()
    const { origin } = await serveStreams({ pool, replay }, () => go.promise)
    const opened = nextOpen(pool)
    const connecting = connect(origin, '/?id=ada')
    await opened
    const finish = async () => {
      go.resolve()
      const client = await connecting
      await pool.broadcast('live')
      await client.until(({ data }) => data.includes('live'))
      expect(pool.stats().gaps).toBe(0)
      return client.data
    }
    return { pool, finish }
  }

  test('still gets the history that it has not read, once', async () => {
    const log = new FakeLog()
    log.stored = [entry('1', '*'), entry('2', '*')]
    const { pool, finish } = await open(log, 'all')
    await pool.broadcast('since then')
    log.reset('trimmed')
    expect(await finish()).toEqual(['1', '2', 'since then', 'live'])
  })

  test('gets only the newest of the older history, if it wants the latest', async () => {
    const log = new FakeLog()
    log.stored = [entry('1', '*'), entry('2', '*')]
    const { pool, finish } = await open(log, 'latest')
    for (const data of ['a', 'b']) await pool.broadcast(data)
    log.reset('trimmed')
    expect(await finish()).toEqual(['2', 'a', 'b', 'live'])
  })

  test('gets the history of the log that replaced the old one, and ignores a removal in it', async () => {
    const log = new FakeLog()
    log.stored = [entry('1', '*')]
    const { finish } = await open(log, 'all')
    log.epoch = 'b'
    log.stored = [entry('b-1', '*'), entry('b-2', '-ada'), entry('b-3', '@ada')]
    log.reset('replaced')
    expect(await finish()).toEqual(['b-1', 'b-3', 'live'])
  })
})
