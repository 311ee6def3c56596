/** When streams end whose clients' rights run out. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Expiry } from '../../src/pool/expiry.js'
import type { Stream } from '../../src/stream/stream.js'

const START = Date.UTC(2026, 0, 1)
const SECOND = 1000
const HOUR = 3_600_000

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'], now: START })
})

afterEach(() => {
  vi.useRealTimers()
})

/** Streams that record when they are closed, in milliseconds since the start. */
function setUp() {
  const expiry = new Expiry()
  const closed: Record<string, number> = {}
  const add = (name: string, time: number) => {
    let gone = () => {}
    const stream = {
      onceClosed: (listener: () => void) => {
        gone = listener
      },
      close: (reason: string) => {
        expect(reason).toBe('expired')
        closed[name] = Date.now() - START
        gone()
      },
    }
    expiry.add(stream as unknown as Stream, START + time)
    return { leave: () => gone() }
  }
  return { closed, add }
}

test('each stream ends at its time, at most a second late, whatever the order', () => {
  const { closed, add } = setUp()
  add('later', 2 * HOUR)
  add('soon', 1500)
  add('at once', 1)
  add('together', 1999)
  add('never', Number.POSITIVE_INFINITY)
  vi.advanceTimersByTime(1499)
  expect(closed).toEqual({ 'at once': SECOND })
  vi.advanceTimersByTime(3 * HOUR)
  expect(closed).toEqual({
    'at once': SECOND,
    soon: 2 * SECOND,
    together: 2 * SECOND,
    later: 2 * HOUR,
  })
})

test('one timer serves all streams, and none is left when they are gone', () => {
  const { closed, add } = setUp()
  const streams = [5, 3, 4, 3].map((time, i) => add(`${i}`, time * HOUR))
  expect(vi.getTimerCount()).toBe(1)
  for (const { leave } of streams) leave()
  expect(vi.getTimerCount()).toBe(0)
  add('last', SECOND)
  vi.advanceTimersByTime(SECOND)
  expect(closed).toEqual({ last: SECOND })
  expect(vi.getTimerCount()).toBe(0)
})

test('a time beyond the longest timer is waited for', () => {
  const { closed, add } = setUp()
  add('next month', 40 * 24 * HOUR)
  vi.advanceTimersByTime(40 * 24 * HOUR - 1)
  expect(closed).toEqual({})
  vi.advanceTimersByTime(1)
  expect(closed).toEqual({ 'next month': 40 * 24 * HOUR })
})

test('a clock that is set forward is noticed within a minute', () => {
  const { closed, add } = setUp()
  add('a', HOUR)
  vi.setSystemTime(START + 2 * HOUR)
  vi.advanceTimersByTime(60 * SECOND)
  expect(closed).toEqual({ a: 2 * HOUR + 60 * SECOND })
})

test('many streams end in slices, and one that comes meanwhile is not forgotten', () => {
  const { closed, add } = setUp()
  for (let i = 0; i < 64; i++) add(`${i}`, SECOND)
  add('after', 2 * SECOND)
  let clock = 0
  // Each look at the clock is 10 ms later than the last, so each slice ends at its first look.
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => (clock += 10))
  vi.advanceTimersToNextTimer()
  expect(Object.keys(closed).length).toBeLessThan(64)
  add('meanwhile', SECOND)
  vi.advanceTimersByTime(SECOND)
  spy.mockRestore()
  expect(Object.keys(closed)).toHaveLength(66)
})
