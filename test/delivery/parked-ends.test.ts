/** How streams end while they are parked: the log has not said yet what their clients have missed. */
import { setImmediate as turn } from 'node:timers/promises'
import type { ClientPool, EventStream } from 'koa-sse-pool'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hubOf } from '../../src/pool/hub.js'
import { deferred, nextOpen, watchCloses } from '../helpers/app.js'
import { EngineServers, REMOTE } from '../helpers/engines.js'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, type TestClient, testPool } from '../helpers/server.js'

const entry = (id: string, target = '*') => ({ id, target, nonce: id, frame: `data: ${id}\n\n` })

const from = (id: string) => ({ headers: { 'Last-Event-ID': id } })

/** A client whose cursor, `2`, the window lacks; the log does not answer before `log.boot()`. */
async function parkBeforeBoot(options: { maxStreamsPerClient?: number } = {}) {
  const log = new FakeLog()
  log.boots = false
  log.stored = [entry('1'), entry('2'), entry('3'), entry('4')]
  const pool = testPool({ log, ...options })
  const served = await serveStreams({ pool })
  const { client, stream } = await park(pool, served.origin)
  return { ...served, log, pool, client, stream }
}

const eventsOf = ({ events }: TestClient) => events.map(({ event, data }) => `${event} ${data}`)

async function park(pool: ClientPool, origin: string) {
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada', from('2'))
  return { client, stream: (await opened) as EventStream }
}

describe('the close event of a parked stream', () => {
  test('waits for the gap that tells what its client has missed', async () => {
    const log = new FakeLog()
    log.stored = [entry('1'), entry('2')]
    const pool = testPool({ log, window: { events: 8 } })
    const { origin } = await serveStreams({ pool })
    for (let i = 0; i < 8; i++) await pool.send('bob', `${i}`)
    await pool.broadcast('missed')
    const answer = deferred()
    log.beforeBarrier = () => answer.promise
    const { client, stream } = await park(pool, origin)
    stream.end('bye')
    answer.resolve()
    expect(await client.ended).toBe(true)
    expect(eventsOf(client)).toEqual(['sse.gap {"reason":"trimmed"}', 'close bye'])
  })

  test('waits for entries that the log has before it fills the window', async () => {
    const { log, client, stream } = await parkBeforeBoot()
    stream.send('direct')
    stream.end('bye')
    await client.until(({ data }) => data.includes('direct'))
    log.boot()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['direct', '3', '4', 'bye'])
  })

  test('waits for the history of a new client', async () => {
    const log = new FakeLog()
    log.boots = false
    log.stored = [entry('1'), entry('2')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool, replay: 'all' }, ctx => ctx.sse.end('bye'))
    const client = await connect(origin, '/?id=ada')
    log.boot()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['1', '2', 'bye'])
  })

  test('waits for entries that reach this process later than its client', async () => {
    const log = new FakeLog()
    log.stored = [entry('1')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool }, ctx => ctx.sse.end('bye'))
    for (const data of ['2', '3', '4']) log.store(data)
    const client = await connect(origin, '/?id=ada', from('3'))
    log.deliver()
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['4', 'bye'])
  })

  test('waits until the window was refilled', async () => {
    const log = new FakeLog()
    log.stored = [entry('1')]
    const pool = testPool({ log })
    const { origin } = await serveStreams({ pool }, ctx => ctx.sse.end('bye'))
    for (const data of ['2', '3', '4']) log.store(data)
    const client = await connect(origin, '/?id=ada', from('2'))
    log.reset('trimmed')
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['3', '4', 'bye'])
  })

  test('is not followed by what was sent after the log had answered', async () => {
    const { log, pool, client, stream } = await parkBeforeBoot()
    stream.end('bye')
    log.boot()
    void pool.broadcast('later')
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual(['3', '4', 'bye'])
  })
})

describe('a parked stream that waits to send its close event', () => {
  test('ends when the pool closes, and its client can come back for what it has missed', async () => {
    const { pool, client, stream } = await parkBeforeBoot()
    const closes = watchCloses(pool)
    stream.end('bye')
    await pool.close()
    expect(await client.ended).toBe(true)
    expect(closes.reasons).toEqual(['drain'])
    expect(client.data).toEqual([])
    expect(client.text).toContain('retry: ')
  })

  test('ends when the pool closes before the response has opened', async () => {
    const log = new FakeLog()
    log.boots = false
    const pool = testPool({ log })
    const closes = watchCloses(pool)
    const go = deferred()
    const { origin } = await serveStreams({ pool }, async ctx => {
      ctx.sse.end('bye')
      await go.promise
    })
    const opened = nextOpen(pool)
    const connecting = connect(origin, '/?id=ada', from('2'))
    await opened
    const closed = pool.close()
    go.resolve()
    const client = await connecting
    await closed
    expect(await client.ended).toBe(true)
    expect(closes.reasons).toEqual(['drain'])
    expect(client.data).toEqual([])
  })

  test.each(['rotated', 'expired'] as const)('ends when it is %s', async reason => {
    const { pool, client, stream } = await parkBeforeBoot()
    const closes = watchCloses(pool)
    stream.end('bye')
    for (const each of hubOf(pool).members.streams()) each.close(reason)
    expect(await client.ended).toBe(true)
    expect(closes.reasons).toEqual([reason])
    expect(client.data).toEqual([])
  })

  test('gets nothing more when its rights run out before the response has opened', async () => {
    const log = new FakeLog()
    log.boots = false
    log.stored = [entry('1'), entry('2'), entry('3')]
    const pool = testPool({ log })
    const go = deferred()
    const { origin } = await serveStreams({ pool }, async ctx => {
      ctx.sse.end('bye')
      await go.promise
    })
    const opened = nextOpen(pool)
    const connecting = connect(origin, '/?id=ada', from('2'))
    await opened
    for (const each of hubOf(pool).members.streams()) each.close('expired')
    log.boot()
    go.resolve()
    const client = await connecting
    expect(await client.ended).toBe(true)
    expect(client.data).toEqual([])
  })

  test('ends when its client leaves', async () => {
    const { log, pool, client, stream } = await parkBeforeBoot()
    const closes = watchCloses(pool)
    stream.end('bye')
    client.close()
    expect(await closes.next).toBe('client')
    log.boot()
    await turn()
    expect(pool.stats()).toMatchObject({ streams: 0, parked: 0 })
  })

  test('frees its place when a second stream has replaced it, as the log may never answer', async () => {
    const { pool, origin, client } = await parkBeforeBoot({ maxStreamsPerClient: 1 })
    const closes = watchCloses(pool)
    for (let i = 0; i < 5; i++) await park(pool, origin)
    expect(await client.ended).toBe(false)
    expect(closes.reasons).toEqual(Array(4).fill('replaced'))
    expect(pool.stats().streams).toBe(2)
  })
})

test('a parked stream that is rotated ends at once, as its client comes back with its cursor', async () => {
  const { client, stream } = await parkBeforeBoot()
  stream.send('direct')
  stream.rotate()
  expect(await client.ended).toBe(true)
  expect(client.data).toEqual(['direct'])
})

describe('over a slow link', () => {
  let servers: EngineServers
  beforeAll(async () => {
    servers = await EngineServers.start()
  })
  afterAll(() => servers.stop())

  test.each(REMOTE)('a close event waits until %s has shown what was missed', async engine => {
    const log = await servers.log(engine, 5)
    const pool = testPool({ ...(log && { log }), window: { events: 8 } })
    const { origin } = await serveStreams({ pool }, ctx => {
      if (ctx.get('Last-Event-ID') !== '') ctx.sse.end('bye')
    })
    const first = await connect(origin, '/?id=ada')
    const { id = '' } = await first.event('sse.cursor')
    first.close()
    for (let i = 0; i < 8; i++) await pool.send('bob', `${i}`)
    await pool.broadcast('missed')
    const back = await connect(origin, '/?id=ada', from(id))
    expect(await back.ended).toBe(true)
    expect(eventsOf(back)).toEqual(['sse.gap {"reason":"trimmed"}', 'close bye'])
  })
})
