import { afterEach, describe, expect, test, vi } from 'vitest'
import { Reader } from '../../src/delivery/reader.js'
import { deliver, differences, type EngineName } from './deliveries.js'

const DELIVERIES = Number(process.env.SOAK_DELIVERIES ?? 300_000)
const SEED = Number(process.env.SOAK_SEED ?? Math.trunc(Math.random() * 1e9))
const engines: EngineName[] = ['memory', 'redis']

afterEach(() => {
  vi.restoreAllMocks()
})

test.each(engines)(
  'of many deliveries none is lost, doubled or out of order while connections are cut on %s',
  {
    timeout: 120_000 + DELIVERIES / 5,
  },
  async engine => {
    console.log(`deliveries: ${DELIVERIES} on ${engine}, seed ${SEED}`)
    const started = performance.now()
    const report = await deliver({ engine, deliveries: DELIVERIES, seed: SEED, print: console.log })
    console.log(`${Math.round((performance.now() - started) / 1000)} s`, report)
    expect(report).toMatchObject({ lost: 0, doubled: 0, misplaced: 0, gaps: 0 })
    expect(report.deliveries).toBeGreaterThanOrEqual(DELIVERIES)
    // With fewer, the run would prove little.
    expect(report.reconnects).toBeGreaterThan(DELIVERIES / 2000)
  },
)

describe('the run finds', { timeout: 120_000 }, () => {
  const { resumeAt } = Reader.prototype
  const run = () => deliver({ engine: 'memory', deliveries: 300_000, seed: 7 })

  test('the entry at the cursor that is sent once more', async () => {
    vi.spyOn(Reader.prototype, 'resumeAt').mockImplementation(function (
      this: Reader,
      position,
      ...more
    ) {
      resumeAt.call(this, position - 1, ...more)
    })
    expect(await run()).toMatchObject({ lost: 0, doubled: expect.toSatisfy(count => count > 0) })
  })

  test('the first entry after the cursor that is skipped', async () => {
    vi.spyOn(Reader.prototype, 'resumeAt').mockImplementation(function (
      this: Reader,
      position,
      ...more
    ) {
      resumeAt.call(this, position + 1, ...more)
    })
    expect(await run()).toMatchObject({ doubled: 0, lost: expect.toSatisfy(count => count > 0) })
  })
})

test.each([
  ['nothing', [1, 2, 3], { lost: 0, doubled: 0, misplaced: 0 }],
  ['a loss', [1, 3], { lost: 1, doubled: 0, misplaced: 0 }],
  ['a repetition', [1, 2, 2, 3], { lost: 0, doubled: 1, misplaced: 0 }],
  ['a wrong order', [1, 3, 2], { lost: 0, doubled: 0, misplaced: 1 }],
  ['an event for another client', [1, 2, 9, 3], { lost: 0, doubled: 0, misplaced: 1 }],
])('the comparison of what came with what was due shows %s', (_, got, shown) => {
  expect(differences([1, 2, 3], got)).toEqual(shown)
})
