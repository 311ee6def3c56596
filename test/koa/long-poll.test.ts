/** The cursor that a long poll is given to continue from. */
import { setImmediate as turn } from 'node:timers/promises'
import type { PollAnswer } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { serveStreams, testPool } from '../helpers/server.js'

const never = () => new Promise<void>(() => {})

async function serve(log: FakeLog | undefined) {
  const pool = testPool(log ? { log } : {})
  const { origin } = await serveStreams({ pool, longPoll: true })
  const poll = async (cursor = '') => {
    const headers = { Accept: 'application/json', ...(cursor && { 'Last-Event-ID': cursor }) }
    const response = await fetch(`${origin}/?id=ada`, { headers })
    return (await response.json()) as PollAnswer
  }
  return { pool, origin, poll }
}

describe('a long poll', () => {
  test('keeps its cursor when nothing could be decided, or the next one would skip what it missed', async () => {
    const log = new FakeLog()
    const { pool, poll } = await serve(log)
    await pool.broadcast('one')
    log.beforeBarrier = never
    const next = poll('77')
    while (pool.stats().polls === 0) await turn()
    await pool.close()
    expect(await next).toEqual({ cursor: '77', events: [] })
  })

  test('without a cursor is held back by an empty log, or the client would ask in a busy loop', async () => {
    const { pool, poll } = await serve(new FakeLog())
    const next = poll()
    const first = await Promise.race([
      next,
      (async () => {
        while (pool.stats().polls === 0) await turn()
        for (let i = 0; i < 50; i++) await turn()
        return 'held back'
      })(),
    ])
    expect(first).toBe('held back')
    await pool.broadcast('one')
    expect((await next).cursor).toBe('1')
  })

  test('with a cursor of another log, and nothing in this one, gets the gap once', async () => {
    const { poll } = await serve(new FakeLog())
    const { events, cursor } = await poll('77')
    expect(events).toMatchObject([{ event: 'sse.gap' }])
    expect(cursor).toBe('')
  })

  test('is answered at once if it is HEAD, and gets no events', async () => {
    const { pool, origin } = await serve(undefined)
    const headers = { Accept: 'application/json', 'Last-Event-ID': await pool.broadcast('x') }
    const answer = fetch(`${origin}/?id=ada`, { method: 'HEAD', headers })
    expect((await answer).status).toBe(200)
  })
})
