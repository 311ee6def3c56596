/** How an iteration over the pool's events ends, and what it leaves behind. */
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { deferred } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { testPool } from '../helpers/server.js'

describe('pool.events', () => {
  test('is released by return(), before it was read and while it waits', async () => {
    const pool = testPool()
    await pool.events({ id: 'ada' }).return(undefined)
    expect(pool.stats().polls).toBe(0)
    const events = pool.events({ id: 'ada' })
    const next = events.next()
    await turn()
    await events.return(undefined)
    expect((await next).done).toBe(true)
    expect(pool.stats().polls).toBe(0)
  })

  test('yields nothing after its signal has aborted', async () => {
    const pool = testPool()
    const controller = new AbortController()
    const events = pool.events({}, { signal: controller.signal })
    for (const data of ['one', 'two', 'three']) void pool.broadcast(data)
    const taken: string[] = []
    for await (const { data } of events) {
      taken.push(data)
      controller.abort()
    }
    expect(taken).toEqual(['one'])
  })

  test('ends when the pool closes, even if it began while that was under way', async () => {
    const log = new FakeLog()
    const pool = testPool({ log })
    const stored = deferred()
    log.beforeMessage = () => stored.promise
    const closed = pool.close()
    await turn()
    const events = pool.events()
    stored.resolve()
    await closed
    expect(pool.stats().polls).toBe(0)
    expect((await Promise.race([events.next(), turn({ done: 'never' })])).done).toBe(true)
  })

  test('leaves no reader behind if it is refused', () => {
    const pool = testPool()
    expect(() => pool.events({ id: 'ada' }, { signal: {} } as never)).toThrow(TypeError)
    expect(() => pool.events({}, { replay: 'al' } as never)).toThrow(TypeError)
    expect(() => pool.events({}, { since: 5 } as never)).toThrow(TypeError)
    expect(() => pool.events({ channels: 'news' } as never)).toThrow(TypeError)
    expect(pool.stats().polls).toBe(0)
  })

  test('waits without counting as a slow stream', () => {
    const pool = testPool()
    void pool.events().next()
    void pool.broadcast('x')
    expect(pool.stats()).toMatchObject({ polls: 1, lagging: 0 })
  })

  test('yields no gap when the window is refilled, if it has missed nothing', async () => {
    const log = new FakeLog()
    const pool = testPool({ log, window: { events: 10 } })
    const events = pool.events({ channels: ['orders'], everyone: false })
    const next = events.next()
    for (let i = 0; i < 20; i++) await pool.broadcast(`${i}`)
    log.reset('trimmed')
    await pool.channel('orders').send('order')
    expect((await next).value?.data).toBe('order')
    expect(pool.stats().gaps).toBe(0)
  })
})
