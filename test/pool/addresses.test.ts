/** The limits for one address. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Addresses } from '../../src/pool/addresses.js'

const NONE = Number.POSITIVE_INFINITY

let now = 0

beforeEach(() => {
  now = 5000
  vi.spyOn(performance, 'now').mockImplementation(() => now)
})

afterEach(() => {
  vi.restoreAllMocks()
})

const limited = (maxStreamsPerAddress: number, connectRate = NONE) =>
  new Addresses({ maxStreamsPerAddress, connectRate })

/** How many requests of an address are let in at once. */
function burstOf(addresses: Addresses, address = 'a'): number {
  let count = 0
  while (count < 10_000 && addresses.refusal(address) === undefined) count += 1
  return count
}

test('without limits, no address is looked at', () => {
  expect(limited(NONE).isLimited).toBe(false)
  expect(limited(1).isLimited).toBe(true)
  expect(limited(NONE, 0.5).isLimited).toBe(true)
})

test('an address gets a place back when a stream is over', () => {
  const addresses = limited(2)
  const leave = addresses.enter('a')
  addresses.enter('a')
  expect(addresses.refusal('a')).toBe('address')
  expect(addresses.full('b')).toBeUndefined()
  leave()
  expect(addresses.refusal('a')).toBeUndefined()
  expect(addresses.refusal(undefined)).toBeUndefined()
  addresses.enter(undefined)()
})

test('an address may open what its rate gives in 10 seconds at once, then goes on at its rate', () => {
  const addresses = limited(NONE, 5)
  expect(burstOf(addresses)).toBe(50)
  expect(addresses.refusal('a')).toBe('rate')
  expect(burstOf(addresses, 'b')).toBe(50)
  now += 1000
  expect(burstOf(addresses)).toBe(5)
  now += 60_000
  expect(burstOf(addresses)).toBe(50)
})

test.each([0.5, 0.1, 0.01])('a rate of %d lets single streams in', rate => {
  const addresses = limited(NONE, rate)
  // A sum of fractions is not exact.
  now = 5000.123456789
  expect(burstOf(addresses)).toBe(Math.max(1, rate * 10))
  now += 1000 / rate - 1
  expect(burstOf(addresses)).toBe(0)
  now += 2
  expect(burstOf(addresses)).toBe(1)
})

test('a request that is refused costs nothing of the rate', () => {
  const addresses = limited(1, 1)
  const leave = addresses.enter('a')
  for (let i = 0; i < 100; i++) expect(addresses.refusal('a')).toBe('address')
  leave()
  expect(burstOf(addresses)).toBe(10)
  for (let i = 0; i < 100; i++) expect(addresses.refusal('a')).toBe('rate')
  now += 1000
  expect(addresses.refusal('a')).toBeUndefined()
})

test('the last 10,000 addresses are remembered, and never more than twice as many', () => {
  const addresses = limited(NONE, 0.1)
  const maps = new Set<Map<string, number>>()
  const { set } = Map.prototype
  vi.spyOn(Map.prototype, 'set').mockImplementation(function (this: Map<string, number>, ...pair) {
    maps.add(this)
    return set.apply(this, pair)
  })
  for (let i = 0; i < 25_000; i++) addresses.refusal(`${i}`)
  vi.mocked(Map.prototype.set).mockRestore()
  expect([...maps].map(({ size }) => size)).toEqual([10_000, 10_000, 5000])
  for (const known of [15_000, 20_000, 24_999]) expect(addresses.refusal(`${known}`)).toBe('rate')
  expect(addresses.refusal('0')).toBeUndefined()
})
