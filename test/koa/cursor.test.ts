/** What is kept of the cursor that a request brings. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { keptCursor } from '../../src/koa/cursor.js'
import { nextOpen } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const LONG = 'x'.repeat(15_000)

async function lastEventIdWith(header: string, query = '', resume = true) {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, resume })
  const opened = nextOpen(pool)
  const headers = header === '' ? {} : { 'Last-Event-ID': header }
  const client = await connect(origin, `/?id=ada${query}`, { headers })
  return { pool, client, stream: await opened }
}

describe('a cursor that is longer than any id', () => {
  test.each([
    ['header', LONG, ''],
    ['query', '', `&lastEventId=${LONG}`],
  ])('is cut, and its client gets a gap: by the %s (fault 74)', async (_, header, query) => {
    const { client, stream } = await lastEventIdWith(header, query)
    expect(stream.lastEventId).toBe('x'.repeat(256))
    expect((await client.event('sse.gap')).data).toBe('{"reason":"unknown"}')
  })

  test('does not begin to count as an id of the log because it is cut (fault 74)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const id = await pool.broadcast('one')
    const headers = { 'Last-Event-ID': id + LONG }
    const client = await connect(origin, '/?id=ada', { headers })
    await client.event('sse.gap')
    expect(pool.stats().replays).toBe(0)
  })

  test('is whole where the ids are the app’s own', async () => {
    const { stream } = await lastEventIdWith(LONG, '', false)
    expect(stream.lastEventId).toBe(LONG)
  })
})

test('what is kept of a cursor does not keep the header or the URL that it was in (fault 74)', () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const kept: string[] = []
  gc()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 1000; i++) {
    const header = Buffer.alloc(20_000, `${i},`).toString('latin1')
    kept.push(keptCursor(header, true), keptCursor(header.slice(100, 150), true))
  }
  gc()
  expect(kept).toHaveLength(2000)
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(5_000_000)
})
