/**
 * The same on engines that are databases, with the faults that only they have, and events in transactions of the app. In
 * a file of its own, so that it runs beside the other engines.
 */
import { expect, test } from 'vitest'
import { type ChaosOptions, runChaos } from './chaos.js'

const runs: (ChaosOptions & { suffers: string[] })[] = [
  {
    ...{ engine: 'postgres', seed: 1793, rounds: 2 },
    suffers: ['vacuum', 'cut', 'deadlock', 'failover', 'kill', 'drain', 'leave', 'part', 'burst'],
  },
  {
    ...{ engine: 'sqlite', seed: 1793, rounds: 2 },
    suffers: ['hold', 'wipe', 'abort', 'full', 'kill', 'drain', 'leave', 'part', 'burst'],
  },
]

test.for(runs)(
  'nothing is lost, duplicated or out of order on $engine, whatever fails, and no event of a transaction that was rolled back arrives',
  async ({ suffers, ...options }) => {
    const report = await runChaos(options)
    console.log(report)
    // With fewer, the run would prove little.
    expect(Object.keys(report.faults)).toEqual(expect.arrayContaining(suffers))
    expect(report.deliveries).toBeGreaterThan(5000)
    expect(report.reconnects).toBeGreaterThan(100)
    expect(report.sends.rejected).toBeGreaterThan(5)
  },
)
