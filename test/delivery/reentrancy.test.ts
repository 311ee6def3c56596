/** Listeners run in the middle of a delivery: what they send or join must not upset it. */
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { watchCloses } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

test('a direct send by a listener does not overtake what it sent through the pool just before', async () => {
  const pool = testPool({ window: { events: 3 } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  const stream = streamOf(pool, 'ada')
  // A full socket: entries are evicted before the stream reads them.
  stream.canTake = () => false
  for (let i = 0; i < 5; i++) await pool.broadcast(`lost ${i}`)
  // Now it takes what is about to be evicted, so that it reads the gap in the middle of a send.
  stream.canTake = allowance => allowance > 0
  pool.on('gap', ({ id }) => {
    void pool.send(id, 'pool')
    stream.face.send('direct')
  })
  for (let i = 0; i < 4; i++) void pool.broadcast(`${i}`)
  Reflect.deleteProperty(stream, 'canTake')
  void pool.broadcast('last')
  await client.until(({ data }) => data.includes('last'))
  expect(client.data.filter(data => data.length > 1)).toEqual(['pool', 'direct', 'last'])
})

test('a direct send by a listener goes out although what it sent just before was for others', async () => {
  const pool = testPool({ window: { events: 3 } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  const stream = streamOf(pool, 'ada')
  stream.canTake = () => false
  for (let i = 0; i < 5; i++) void pool.broadcast(`lost ${i}`)
  stream.canTake = allowance => allowance > 0
  pool.on('gap', () => {
    Reflect.deleteProperty(stream, 'canTake')
    void pool.send('carl', 'for another client')
    stream.face.send('direct')
  })
  // These evict the broadcasts. Nothing that is appended from now on makes the pump visit the stream.
  for (let i = 0; i < 4; i++) void pool.send('bob', `${i}`)
  await turn()
  // A heartbeat would deliver it too, but only after seconds.
  expect(stream.directAfter).toBeUndefined()
  await client.until(({ data }) => data.includes('direct'))
  expect(pool.stats().gaps).toBe(1)
})

test('a direct send comes after the send before it, though a listener lets that arrive while others do', async () => {
  const log = new FakeLog()
  log.isLive = false
  const pool = testPool({ log, window: { events: 3 } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await connect(origin, '/?id=bob')
  const bob = streamOf(pool, 'bob')
  bob.canTake = () => false
  for (let i = 0; i < 5; i++) log.store(`old ${i}`)
  log.deliver()
  for (let i = 0; i < 4; i++) log.store(`new ${i}`)
  const sent = pool.send('ada', 'pool')
  streamOf(pool, 'ada').face.send('direct')
  await turn()
  const arriving = log.stored.slice(log.seen)
  // In the middle of an append, as bob reads a gap before the window evicts what is pending.
  pool.on('gap', () => log.sink.append(arriving.slice(4)))
  bob.canTake = allowance => allowance > 0
  log.sink.append(arriving.slice(0, 4))
  expect(await sent).toBe('10')
  await client.until(({ data }) => data.includes('direct'))
  expect(client.data.slice(5)).toEqual(['new 0', 'new 1', 'new 2', 'new 3', 'pool', 'direct'])
})

test('a stream still joins a channel when the gap that it reads first makes a listener send', async () => {
  const pool = testPool({ window: { events: 3 } })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  await pool.channel('news').send('old news')
  for (const data of ['1', '2']) await pool.send('bob', data)
  // An app that sends a snapshot after each gap. Here that evicts the only entry of the channel.
  pool.on('gap', ({ id }) => void pool.send(id, 'snapshot'))
  const stream = streamOf(pool, 'ada')
  stream.lose('lagged')
  stream.face.join('news')
  expect(stream.face.channels).toEqual(['news'])
  await pool.channel('news').send('fresh news')
  await pool.send('ada', 'last')
  await client.until(({ data }) => data.includes('last'))
  expect(client.data).toEqual(['snapshot', 'fresh news', 'last'])
})

test('a listener that sends to another stream while the window is refilled does not make that stream repeat history', async () => {
  const log = new FakeLog('a')
  log.store('before')
  const pool = testPool({ log })
  const closes = watchCloses(pool)
  const { origin } = await serveStreams({ pool })
  const ada = await connect(origin, '/?id=ada')
  const bob = await connect(origin, '/?id=bob')
  for (const client of [ada, bob]) await client.event('sse.cursor')
  pool.on('gap', ({ id }) => {
    if (id === 'ada') streamOf(pool, 'bob').face.send('ada has missed something')
  })
  log.epoch = 'b'
  log.stored = []
  log.store('history')
  log.store({ nonce: 'removal', target: '-bob', frame: 'data: long ago\n\n' })
  log.store('more history')
  log.reset('replaced')
  await pool.broadcast('live')
  for (const client of [ada, bob]) await client.until(({ data }) => data.includes('live'))
  expect(ada.data).toEqual(['live'])
  expect(bob.data).toEqual(['ada has missed something', 'live'])
  expect(pool.stats().gaps).toBe(2)
  expect(closes.reasons).toEqual([])
})
