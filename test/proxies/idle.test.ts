import { describe, expect, test } from 'vitest'
import { watchCloses } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { PROXIES, startProxy } from './proxy.js'

/** The idle timeout of the proxies in these tests, in ms. */
const IDLE = 1000
const PING = 300

describe.each(PROXIES)('behind %s', name => {
  async function open(pingInterval: number | false) {
    const pool = testPool({ pingInterval })
    const { port } = await serveStreams({ pool })
    const origin = await startProxy(name, [port, port], { isImpatient: true })
    const begin = performance.now()
    const client = await connect(origin, '/event/push?id=ada')
    const age = () => performance.now() - begin
    return { pool, client, age }
  }

  test('heartbeats keep a quiet stream open for twice the idle timeout', async () => {
    const { pool, client, age } = await open(PING)
    const closes = watchCloses(pool)
    // The first one came when the stream opened.
    const count = 1 + Math.ceil((2 * IDLE) / PING)
    await client.until(({ events }) => events.filter(e => e.event === 'sse.cursor').length > count)
    expect(age()).toBeGreaterThan(2 * IDLE)
    await pool.send('ada', 'still here')
    await client.until(({ data }) => data.includes('still here'))
    expect(closes.reasons).toEqual([])
  })

  test('a quiet stream without heartbeats is cut', async () => {
    const { pool, client, age } = await open(false)
    const closed = watchCloses(pool).next
    await client.ended
    expect(age()).toBeGreaterThan(IDLE * 0.9)
    expect(await closed).toBe('client')
  })
})
