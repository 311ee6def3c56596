import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { type ClientPool, sse } from 'koa-sse-pool'
import { metrics } from 'koa-sse-pool/metrics'
import { redisLog } from 'koa-sse-pool/redis'
import { AggregatorRegistry, Counter, Registry } from 'prom-client'
import { createClient } from 'redis'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { connect2, session2 } from '../helpers/http2.js'
import { openLean } from '../helpers/lean.js'
import { RedisServer } from '../helpers/redis.js'
import { connect, listen, rawConnection, serveStreams, testPool } from '../helpers/server.js'
import { lintMetrics } from './promtool.js'

const TEN = Array.from({ length: 10 }, (_, i) => `client-${i}`)

/** A register with the pool's metrics, and what it shows of one of them: each value by its labels. */
function watch(pool: ClientPool, options = {}) {
  const register = new Registry()
  const stop = metrics(pool, { register, ...options })
  onTestFinished(stop)
  const read = async (name: string) => {
    const text = await register.metrics()
    const values = new Map<string, number>()
    for (const [, labels = '', value] of text.matchAll(
      new RegExp(`^koa_sse_pool_${name}(?:{(.*)})? (\\S+)$`, 'gm'),
    )) {
      values.set(labels.replace(/pool="[^"]*",?/, ''), Number(value))
    }
    return values
  }
  const figure = async (name: string, labels = '') => (await read(name)).get(labels)
  return { register, stop, read, figure }
}

describe('promtool finds nothing to complain about', () => {
  test('in the metrics of a pool that has delivered', async () => {
    const pool = testPool()
    const { register } = watch(pool)
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    await pool.broadcast('news')
    await client.until(({ data }) => data.includes('news'))
    expect(lintMetrics(await register.metrics())).toBe('')
  })

  test('but it does where a name is against the rules', async () => {
    const register = new Registry()
    new Counter({ name: 'deliveries', help: 'no _total', registers: [register] })
    expect(lintMetrics(await register.metrics())).toContain('counter metrics should have "_total"')
  })
})

describe.each(['http1', 'http2'] as const)('ten clients over %s', protocol => {
  async function open() {
    const pool = testPool({ lean: false })
    const app = new Koa()
    app.use(sse({ pool, id: ctx => ctx.query.id }))
    const handler = app.callback()
    const server = protocol === 'http2' ? http2.createServer(handler) : http.createServer(handler)
    const { origin } = await listen(server)
    const session = protocol === 'http2' ? session2(origin) : undefined
    const clients = await Promise.all(
      TEN.map(async id => {
        const path = `/?id=${id}`
        return session ? (await connect2(session, path)).client : connect(origin, path)
      }),
    )
    return { pool, clients, ...watch(pool) }
  }

  test('are counted by transport and state, and what they get by event and byte', async () => {
    const { pool, clients, read, figure } = await open()
    for (const client of clients) await client.event('sse.cursor')
    const id = await pool.broadcast({ event: 'update', data: 'x' })
    await Promise.all(clients.map(client => client.event('update')))
    expect(await figure('streams', `transport="${protocol}",state="live"`)).toBe(10)
    const others = [...(await read('streams'))].filter(([labels]) => !labels.includes('"live"'))
    expect(others.every(([, value]) => value === 0)).toBe(true)
    expect(await figure('clients')).toBe(10)
    expect(await figure('streams_opened_total')).toBe(10)
    expect(await figure('entries_total')).toBe(1)
    expect(await figure('deliveries_total')).toBe(10)
    const bytes = `event: update\ndata: x\nid: ${id}\n\n`.length
    expect(await figure('delivered_bytes_total')).toBe(10 * bytes)
    expect(await figure('window_events')).toBe(1)
    expect(await figure('window_limit_events')).toBe(10_000)
  })

  test('are counted when they leave, by reason', async () => {
    const { pool, clients, figure } = await open()
    for (const id of TEN.slice(0, 6)) await pool.remove(id)
    await Promise.all(clients.slice(0, 6).map(client => client.event('close')))
    await expect.poll(() => pool.connections).toBe(4)
    expect(await figure('streams_closed_total', 'reason="removed"')).toBe(6)
    expect(await figure('streams_closed_total', 'reason="client"')).toBe(0)
    expect(await figure('clients')).toBe(4)
  })
})

test('lean streams are a transport of their own', async () => {
  const { pool } = await openLean()
  const { figure } = watch(pool)
  expect(await figure('streams', 'transport="lean",state="live"')).toBe(1)
})

test('a stream whose handler has not opened it is opening', async () => {
  const pool = testPool({ lean: false })
  const { figure } = watch(pool)
  let finish = () => {}
  const handler = () =>
    new Promise<void>(resolve => {
      finish = resolve
    })
  const { origin } = await serveStreams({ pool }, handler)
  const opened = once(pool, 'open')
  const connected = connect(origin, '/?id=ada')
  await opened
  expect(await figure('streams', 'transport="http1",state="opening"')).toBe(1)
  finish()
  await connected
  expect(await figure('streams', 'transport="http1",state="live"')).toBe(1)
})

test('refusals are counted by reason', async () => {
  const pool = testPool({ maxClients: 3 })
  const { figure } = watch(pool)
  const { origin } = await serveStreams({ pool })
  const clients = await Promise.all(TEN.map(id => connect(origin, `/?id=${id}`)))
  expect(clients.filter(({ status }) => status === 503)).toHaveLength(7)
  expect(await figure('refusals_total', 'reason="full"')).toBe(7)
})

test('replays and gaps are counted, gaps by reason', async () => {
  const pool = testPool({ window: { events: 3 } })
  const { figure } = watch(pool)
  const { origin } = await serveStreams({ pool })
  const ids: string[] = []
  for (let i = 0; i < 6; i++) ids.push(await pool.broadcast(String(i)))
  const resume = (id: string, name: string) =>
    connect(origin, `/?id=${name}`, { headers: { 'Last-Event-ID': id } })
  for (const name of TEN.slice(0, 4)) await resume(ids[4] as string, name)
  for (const name of TEN.slice(4, 7)) {
    await (await resume(ids[0] as string, name)).event('sse.gap')
  }
  await (await resume('forged', 'eve')).event('sse.gap')
  expect(await figure('replays_total')).toBe(4)
  expect(await figure('gaps_total', 'reason="trimmed"')).toBe(3)
  expect(await figure('gaps_total', 'reason="unknown"')).toBe(1)
  expect(await figure('gaps_total', 'reason="lagged"')).toBe(0)
  expect(pool.stats()).toMatchObject({ gaps: 4, gapsByReason: { trimmed: 3, unknown: 1 } })
})

describe('the lag', () => {
  const FRAME = 'x'.repeat(64 * 1024)

  test('is that of the slowest stream, and of the 99th percentile, which one slow client does not move', async () => {
    const pool = testPool({ lean: false, stallTimeout: 600_000 })
    const { figure } = watch(pool)
    const { origin, port } = await serveStreams({ pool })
    const clients = await Promise.all(TEN.map(id => connect(origin, `/?id=${id}`)))
    const slow = await rawConnection(port)
    slow.pause()
    slow.write('GET /?id=slow HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect.poll(() => pool.has('slow')).toBe(true)
    let sent = 0
    const state = 'transport="http1",state="blocked"'
    while ((await figure('streams', state)) === 0) {
      await pool.broadcast(`${sent}${FRAME}`)
      sent += 1
      await Promise.all(clients.map(client => client.until(({ data }) => data.length === sent)))
    }
    const before = (await figure('lag_max_entries')) as number
    for (let i = 0; i < 20; i++) {
      await pool.broadcast(`${sent}`)
      sent += 1
    }
    await Promise.all(clients.map(client => client.until(({ data }) => data.length === sent)))
    expect(await figure('lag_max_entries')).toBe(before + 20)
    expect(await figure('lag_p99_entries')).toBe(before + 20)
    // One of 11 is more than a hundredth; one of 101 is not.
    const rest = Array.from({ length: 90 }, (_, i) => `more-${i}`)
    await Promise.all(rest.map(id => connect(origin, `/?id=${id}`)))
    expect(await figure('lag_max_entries')).toBe(before + 20)
    expect(await figure('lag_p99_entries')).toBe(0)
    expect(await figure('lagging_streams')).toBe(1)
  })

  test('of a client for whom nothing was sent is none, however much is sent to others', async () => {
    const pool = testPool()
    const { figure } = watch(pool)
    const { origin } = await serveStreams({ pool })
    await connect(origin, '/?id=quiet')
    const busy = await connect(origin, '/?id=busy')
    for (let i = 0; i < 50; i++) await pool.send('busy', String(i))
    await busy.until(({ data }) => data.length === 50)
    expect(await figure('lag_max_entries')).toBe(0)
    const sent = pool.send('quiet', 'one')
    // Before the pump has had its turn. Counted from its own entry, not from its old cursor.
    expect(pool.stats().lag.max).toBe(1)
    await sent
  })
})

describe('the engine', () => {
  test('parks streams and is down while it cannot be reached, and sends fail by reason', async () => {
    const log = new FakeLog('a')
    const pool = testPool({ log })
    pool.on('error', () => {})
    const { figure } = watch(pool)
    const { origin } = await serveStreams({ pool })
    expect(await figure('log_up')).toBe(1)
    expect(await figure('ready')).toBe(1)
    log.sink.state(false)
    expect(await figure('log_up')).toBe(0)
    expect(await figure('ready')).toBe(0)
    const headers = { 'Last-Event-ID': 'a-7' }
    await Promise.all(TEN.map(id => connect(origin, `/?id=${id}`, { headers })))
    expect([...(await valueOfParked(figure))]).toEqual([10])
    log.append = () => Promise.reject(new Error('broken'))
    await pool.broadcast('lost').catch(() => {})
    expect(await figure('send_failures_total', 'reason="other"')).toBe(1)
    log.sink.state(true)
  })

  async function valueOfParked(figure: (name: string, labels: string) => Promise<unknown>) {
    const values = ['http1', 'lean'].map(name =>
      figure('streams', `transport="${name}",state="parked"`),
    )
    return (await Promise.all(values)).filter(value => value !== 0)
  }

  test('has no latency where it is this process itself', async () => {
    const pool = testPool()
    const { figure } = watch(pool)
    await pool.broadcast('news')
    expect(await figure('log_duration_seconds_count', 'operation="append"')).toBe(0)
  })

  test('that is Redis is measured from the send to the answer and to the arrival, and goes down and up', async () => {
    const server = await RedisServer.start()
    onTestFinished(() => server.stop())
    const client = createClient({ url: server.url })
    client.on('error', () => {})
    const pool = testPool({ log: redisLog({ client, key: 'metrics' }) })
    pool.on('error', () => {})
    const { figure, read, register } = watch(pool)
    const { origin } = await serveStreams({ pool })
    await expect.poll(() => pool.isReady).toBe(true)
    const clients = await Promise.all(TEN.map(id => connect(origin, `/?id=${id}`)))
    for (let i = 0; i < 20; i++) await pool.broadcast(String(i))
    await Promise.all(clients.map(one => one.until(({ data }) => data.length === 20)))
    for (const operation of ['append', 'read']) {
      const label = `operation="${operation}"`
      expect(await figure('log_duration_seconds_count', label)).toBe(20)
      expect(await figure('log_duration_seconds_sum', label)).toBeGreaterThan(0)
      const buckets = [...(await read('log_duration_seconds_bucket'))]
      const own = buckets.filter(([labels]) => labels.includes(label)).map(([, count]) => count)
      expect(own.at(-1)).toBe(20)
      expect(own).toEqual(own.toSorted((a, b) => a - b))
    }
    expect(lintMetrics(await register.metrics())).toBe('')
    await server.kill()
    await expect.poll(() => figure('log_up')).toBe(0)
    await pool.broadcast('lost').catch(() => {})
    const failures = [...(await read('send_failures_total')).values()]
    expect(failures.reduce((sum, value) => sum + value, 0)).toBe(1)
    await server.run()
    await expect.poll(() => figure('log_up')).toBe(1)
  })
})

test('the delay of the event loop is that since the last scrape', async () => {
  const { figure } = watch(testPool())
  const longest = () => figure('event_loop_delay_max_seconds')
  // More than once, because the monitor has to have seen the loop before it is held up.
  await expect
    .poll(() => {
      for (const end = performance.now() + 150; performance.now() < end; );
      return longest()
    })
    .toBeGreaterThan(0.1)
  await expect.poll(longest).toBeLessThan(0.1)
})

describe('a register', () => {
  test('can hold several pools, each under its name', async () => {
    const register = new Registry()
    const [chat, news] = [testPool(), testPool()]
    const stops = [
      metrics(chat, { register, name: 'chat' }),
      metrics(news, { register, name: 'news' }),
    ]
    await chat.broadcast('one')
    const text = await register.metrics()
    expect(text).toContain('koa_sse_pool_entries_total{pool="chat"} 1')
    expect(text).toContain('koa_sse_pool_entries_total{pool="news"} 0')
    expect(lintMetrics(text)).toBe('')
    stops[0]?.()
    expect(await register.metrics()).not.toContain('chat')
    stops[1]?.()
    expect(register.getMetricsAsArray()).toEqual([])
  })

  test('refuses two pools of one name, and names that it has from elsewhere', () => {
    const register = new Registry()
    onTestFinished(metrics(testPool(), { register }))
    expect(() => metrics(testPool(), { register })).toThrow(
      /already has a pool "default".*name: 'chat'/,
    )
    const other = new Registry()
    new Counter({ name: 'koa_sse_pool_gaps_total', help: 'mine', registers: [other] })
    expect(() => metrics(testPool(), { register: other })).toThrow(
      /"koa_sse_pool_gaps_total".*prefix/,
    )
  })

  test('of OpenMetrics shows the same values', async () => {
    const register = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
    register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
    const pool = testPool()
    onTestFinished(metrics(pool, { register }))
    await pool.broadcast('news')
    for (let scrape = 0; scrape < 2; scrape++) {
      const text = await register.metrics()
      expect(text).toContain('# TYPE koa_sse_pool_entries counter')
      expect(text).toContain('koa_sse_pool_entries_total{pool="default"} 1')
    }
  })

  test('of a cluster adds the workers up, and keeps the greatest lag', async () => {
    const snapshots = await Promise.all(
      [1, 2].map(async () => {
        const register = new Registry()
        const pool = testPool()
        onTestFinished(metrics(pool, { register }))
        await pool.broadcast('news')
        return register.getMetricsAsJSON()
      }),
    )
    const text = await AggregatorRegistry.aggregate(snapshots as never).metrics()
    expect(text).toContain('koa_sse_pool_entries_total{pool="default"} 2')
    expect(text).toContain('koa_sse_pool_log_up{pool="default"} 1')
    expect(text).toContain('koa_sse_pool_lag_max_entries{pool="default"} 0')
  })

  test('visits the streams once for a scrape', async () => {
    const pool = testPool()
    const { register } = watch(pool)
    const { hubOf } = await import('../../src/pool/hub.js')
    const { stats } = hubOf(pool)
    let visits = 0
    hubOf(pool).stats = function () {
      visits += 1
      return stats.call(this)
    }
    await register.metrics()
    expect(visits).toBe(1)
    await register.metrics()
    expect(visits).toBe(2)
  })
})

test.each([
  ['no register', { register: undefined }, /option "register" must be a Registry of prom-client/],
  ['a register of something else', { register: {} }, /option "register"/],
  ['an empty name', { register: new Registry(), name: '' }, /option "name"/],
  ['a prefix with a dash', { register: new Registry(), prefix: 'my-app' }, /option "prefix"/],
  ['an unknown option', { register: new Registry(), labels: {} }, /unknown option "labels"/],
])('%s is a TypeError that says what is wrong', (_, options, message) => {
  expect(() => metrics(testPool(), options as never)).toThrow(message)
})

test('something else than a pool is a TypeError', () => {
  expect(() => metrics({} as ClientPool, { register: new Registry() })).toThrow(
    /must be a ClientPool/,
  )
})
