/** What a request gets from a pool that is closing. */
import request from 'supertest'
import { describe, expect, test } from 'vitest'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const EVENT_STREAM = 'text/event-stream; charset=utf-8'

describe.each(['reject', 'retry'] as const)("with overflow: '%s'", overflow => {
  test.each([
    ['draining', 600_000],
    ['closed', 0],
  ])(
    'a browser that reaches a %s pool is told to come back, and not stopped for good (fault 66)',
    async (_, spread) => {
      const pool = testPool()
      const { origin } = await serveStreams({ pool, overflow })
      const client = await connect(origin)
      const closed = pool.close({ spread })
      const { text } = await request(origin)
        .get('/')
        .expect(200)
        .expect('Content-Type', EVENT_STREAM)
      expect(text).toMatch(/^:draining\nretry: \d+\n/)
      const delay = Number(/\d+/.exec(text))
      expect(delay).toBeGreaterThanOrEqual(2000)
      expect(delay).toBeLessThanOrEqual(10_000)
      client.close()
      await closed
    },
  )
})

test.each(['reject', 'retry'] as const)(
  'a long poll gets a 503 from a draining pool, as its client reads JSON, with overflow: %s (fault 66)',
  async overflow => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool, longPoll: true, overflow })
    await pool.close()
    const poll = () => request(origin).get('/').set('Accept', 'application/json')
    await poll().expect(503).expect('Retry-After', /^\d+$/)
  },
)
