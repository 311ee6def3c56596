import { expect, test } from 'vitest'
import { type ChaosOptions, runChaos } from './chaos.js'
import { lanesOf } from './faults.js'
import { Random } from './random.js'
import { planRound } from './schedule.js'

// The rounds of these seeds have nearly every fault.
const runs: (ChaosOptions & { suffers: string[] })[] = [
  {
    ...{ engine: 'redis', seed: 12, rounds: 4 },
    suffers: ['cut', 'crash', 'freeze', 'empty', 'trim', 'kill', 'stop', 'part', 'leave', 'stall'],
  },
  {
    ...{ engine: 'nats', seed: 25, rounds: 3 },
    suffers: ['cut', 'empty', 'trim', 'wipe', 'kill', 'drain', 'stop', 'part', 'leave', 'burst'],
  },
]

test.for(runs)(
  'nothing is lost, duplicated or out of order on $engine, whatever fails (fault 36)',
  async ({ suffers, ...options }) => {
    const report = await runChaos(options)
    console.log(report)
    // With fewer, the run would prove little.
    expect(Object.keys(report.faults)).toEqual(expect.arrayContaining(suffers))
    expect(report.deliveries).toBeGreaterThan(10_000)
    expect(report.presence?.connects).toBeGreaterThan(100)
    expect(report.reconnects).toBeGreaterThan(100)
    expect(report.gaps.replaced).toBeGreaterThan(100)
  },
)

test.for(['redis', 'nats'] as const)(
  'no client gets a gap on %s when nothing is removed from the log',
  async engine => {
    const faults = ['cut', 'crash', 'kill', 'drain', 'stop', 'part', 'join']
    // The window is so large that no client can be away for longer than it lasts.
    const report = await runChaos({ engine, seed: 3, rounds: 1, window: 5000, faults })
    expect(report.reconnects).toBeGreaterThan(50)
    expect(report.gaps).toEqual({})
  },
)

test('runs that are started, read, stopped and killed on different processes end, and their readers get everything', async () => {
  const faults = ['kill', 'part']
  const { runs } = await runChaos({ engine: 'redis', seed: 5, rounds: 1, faults })
  expect(Object.keys(runs?.states ?? {})).toEqual(
    expect.arrayContaining(['done', 'stopped', 'lost']),
  )
  expect(runs?.events).toBeGreaterThan(1000)
})

test('the same seed gives the same rounds', () => {
  const lanes = lanesOf({ faults: { cut: async () => {}, crash: async () => {} } })
  const rounds = (seed: number) => {
    const random = new Random(seed)
    return Array.from({ length: 10 }, () => planRound(random, lanes))
  }
  expect(rounds(7)).toEqual(rounds(7))
  expect(rounds(7)).not.toEqual(rounds(8))
})
