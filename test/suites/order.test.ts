/** What this process does after a send comes after it, on every engine and over slow links. */
import { once } from 'node:events'
import type { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENGINES, type EngineName, EngineServers, REMOTE } from '../helpers/engines.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

const LINKS: (readonly [EngineName, milliseconds: number])[] = [
  ...ENGINES.map(engine => [engine, 0] as const),
  ...REMOTE.map(engine => [engine, 5] as const),
]

let servers: EngineServers
beforeAll(async () => {
  servers = await EngineServers.start()
})
afterAll(() => servers.stop())

async function open(engine: EngineName, milliseconds: number) {
  const log = await servers.log(engine, milliseconds)
  const pool = testPool(log === undefined ? {} : { log })
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  // The window is filled: from here on nothing waits for the engine's start.
  await client.event('sse.cursor')
  return { pool, origin, client, stream: streamOf(pool, 'ada').face }
}

/** Closes the pool before its engine goes, and gives what the client got. */
async function finish(pool: ClientPool, client: TestClient) {
  await pool.close()
  await client.ended
  return client.data
}

describe.each(LINKS)('with the engine %s over a link of %i ms', (engine, milliseconds) => {
  const rounds = 20

  test('a direct send arrives after an awaited send (fault 59)', async () => {
    const { pool, client, stream } = await open(engine, milliseconds)
    for (let i = 0; i < rounds; i++) {
      await pool.send('ada', `pool ${i}`)
      stream.send(`direct ${i}`)
    }
    const expected = Array.from({ length: rounds }, (_, i) => [`pool ${i}`, `direct ${i}`]).flat()
    await client.until(({ data }) => data.length === expected.length)
    expect(await finish(pool, client)).toEqual(expected)
  })

  test('a direct send arrives after a send that nobody awaits, to the client, a channel or everyone (fault 59)', async () => {
    const { pool, client, stream } = await open(engine, milliseconds)
    stream.join('news')
    const expected: string[] = []
    for (let i = 0; i < rounds; i++) {
      void pool.send('ada', `to the client ${i}`)
      void pool.channel('news').send(`to the channel ${i}`)
      void pool.broadcast(`to everyone ${i}`)
      stream.send(`direct ${i}`)
      expected.push(`to the client ${i}`, `to the channel ${i}`, `to everyone ${i}`, `direct ${i}`)
    }
    await client.until(({ data }) => data.length === expected.length)
    expect(await finish(pool, client)).toEqual(expected)
  })

  test.each(['an awaited send', 'a send that nobody awaits'])(
    'the last words of %s arrive before the end (fault 60)',
    async how => {
      const { pool, client, stream } = await open(engine, milliseconds)
      const sent = pool.send('ada', 'last words')
      if (how === 'an awaited send') await sent
      stream.end()
      await client.ended
      expect(client.data).toEqual(['last words', ''])
      expect(client.lastEventId).toBe('sse.end')
      await sent
    },
  )

  test('a join after an awaited send to the channel does not replay it (fault 60)', async () => {
    const { pool, client, stream } = await open(engine, milliseconds)
    await pool.channel('news').send('before')
    stream.join('news')
    await pool.channel('news').send('after')
    await client.until(({ data }) => data.includes('after'))
    expect(await finish(pool, client)).toEqual(['after'])
  })

  test('a stream that opens after an awaited removal of its id stays (fault 60)', async () => {
    const { pool, origin, client } = await open(engine, milliseconds)
    await pool.remove('ada')
    const again = await connect(origin, '/?id=ada')
    await client.ended
    await pool.send('ada', 'welcome back')
    await again.until(({ data }) => data.includes('welcome back'))
    expect(await finish(pool, again)).toEqual(['welcome back'])
  })

  test('a snapshot sent from the pool’s open event comes after what was sent before (fault 60)', async () => {
    const { pool, origin } = await open(engine, milliseconds)
    await pool.send('bob', 'before, in the snapshot')
    pool.on('open', stream => void stream.send('snapshot'))
    const opened = once(pool, 'open')
    const client = await connect(origin, '/?id=bob')
    await opened
    await pool.send('bob', 'change')
    await client.until(({ data }) => data.includes('change'))
    expect(await finish(pool, client)).toEqual(['snapshot', 'change'])
  })
})

test.each(REMOTE)(
  'over a link of 500 ms to %s everything still comes after the send before it (faults 59, 60)',
  async engine => {
    const { pool, client, stream } = await open(engine, 500)
    await pool.send('ada', 'awaited')
    stream.send('direct')
    void pool.broadcast('not awaited')
    stream.end('bye')
    await client.ended
    expect(client.data).toEqual(['awaited', 'direct', 'not awaited', 'bye'])
  },
)
