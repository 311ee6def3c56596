import { describe, expect, it } from 'vitest'
import { forgetOldest, Health } from '../../src/log/shared.js'

function recordedHealth() {
  const told: unknown[] = []
  const health = new Health({ state: isUp => told.push(isUp), error: error => told.push(error) })
  return { health, told }
}

describe('the health of an engine', () => {
  it('is told only when it changes, and is up at first', () => {
    const { health, told } = recordedHealth()
    for (const isUp of [true, false, false, true, true]) health.setUp(isUp)
    expect(told).toEqual([false, true])
  })

  it('reports an error of each kind once, and again after the engine was up', () => {
    const { health, told } = recordedHealth()
    for (const kind of ['a', 'b', 'a']) health.report(kind, kind)
    health.setUp(false)
    health.report('a', 'a')
    health.setUp(true)
    health.report('a', 'a again')
    expect(told).toEqual(['a', 'b', false, true, 'a again'])
  })

  it('reports at most ten kinds of errors in one outage', () => {
    const { health, told } = recordedHealth()
    for (let kind = 0; kind < 20; kind++) health.report(`${kind}`, kind)
    expect(told).toHaveLength(10)
  })
})

it('a map that outgrows its limit forgets its oldest keys', () => {
  const known = new Map<string, number>()
  for (const [index, key] of [...'abcb'].entries()) {
    known.set(key, index)
    forgetOldest(known, 2)
  }
  expect([...known]).toEqual([
    ['b', 3],
    ['c', 2],
  ])
})
