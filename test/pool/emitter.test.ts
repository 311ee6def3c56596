/** A pool is a Node EventEmitter in which a listener can neither break the pool nor wait for ever. */
import { once } from 'node:events'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { connect, serveStreams, testPool } from '../helpers/server.js'

describe('a pool as an event emitter', () => {
  test('can be awaited with once() from node:events, before and after an error (fault 95)', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const failed = once(pool, 'gap')
    const error = new Error('the log is gone')
    queueMicrotask(() => pool.emit('error', error))
    await expect(failed).rejects.toBe(error)

    const missed = once(pool, 'gap')
    await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': 'unknown' } })
    const [stream, reason] = await missed
    expect([stream.id, reason]).toEqual(['ada', 'unknown'])
    expect(pool.listenerCount('gap')).toBe(0)
    expect(pool.listenerCount('error')).toBe(0)
  })

  test('names its listeners, and removes them by either name', () => {
    const pool = testPool()
    const listener = () => {}
    pool.on('open', listener).once('open', listener)
    expect(pool.eventNames()).toEqual(['open'])
    expect(pool.listenerCount('open')).toBe(2)
    pool.off('open', listener).removeListener('open', listener)
    expect(pool.listenerCount('open')).toBe(0)
  })

  test.each(['on', 'once', 'addListener', 'prependListener', 'prependOnceListener'] as const)(
    'refuses %s() for an event that does not exist, and names the nearest (fault 103)',
    method => {
      const pool = testPool()
      const add = pool[method].bind(pool) as (event: string, listener: () => void) => unknown
      expect(() => add('opne', () => {})).toThrow(
        'A ClientPool has no event "opne"; did you mean "open"?',
      )
      expect(() => add('newListener', () => {})).not.toThrow()
    },
  )
})

test('an error without a listener is one warning, which names the listener to add (fault 109)', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  onTestFinished(() => warn.mockRestore())
  const pool = testPool()
  await pool.close()
  for (let i = 0; i < 2; i++) await pool.broadcast('x').catch(() => {})
  expect(warn).toHaveBeenCalledTimes(1)
  expect(warn.mock.calls[0]?.[0]).toContain(`pool.on('error', …)`)
})
