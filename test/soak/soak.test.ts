import { EventEmitter } from 'node:events'
import type { ClientPool } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { soak } from './soak.js'

const CONNECTS = Number(process.env.SOAK_CONNECTS ?? 3000)
const transports = ['http1', 'http2', 'lean'] as const
const SEED = Number(process.env.SOAK_SEED ?? Math.trunc(Math.random() * 1e9))

test('the heap, handles, timers and maps do not grow while clients come and go over HTTP/1.1 and HTTP/2 (fault 52)', {
  timeout: 120_000 + CONNECTS * 20,
}, async () => {
  console.log(`soak: ${CONNECTS} connects, seed ${SEED}`)
  const rounds = Math.max(3, Math.ceil(CONNECTS / 6000))
  await soak({ transports, connects: CONNECTS, seed: SEED, rounds, print: console.log })
})

const kept: unknown[] = []
const listeners = new EventEmitter().setMaxListeners(0)

/** Leaks as apps make them, and what the check must say. */
const LEAKS: [what: string, plant: (pool: ClientPool) => void, found: RegExp][] = [
  [
    'a listener that keeps each stream',
    pool => pool.on('start', stream => listeners.on('never', () => stream.id)),
    /live instances of Stream: \d+ -> \d+/,
  ],
  [
    'a timer that nobody clears',
    pool => pool.on('close', () => kept.push(setInterval(() => {}, 1e8).unref())),
    /timers: \d+ -> \d+/,
  ],
  [
    'a timer that also keeps the process',
    pool => pool.on('close', () => kept.push(setInterval(() => {}, 1e8))),
    /active resources of type Timeout: \d+ -> \d+/,
  ],
  [
    'names in a private map of the pool',
    pool => pool.on('open', () => pool.claim(`name ${Math.random()}`, { ttl: 1e9 })),
    /size of http1 pool\.hub\.claims\.#held: \d+ -> \d+/,
  ],
  [
    'strings that nothing else shows',
    pool => pool.on('open', () => kept.push(`${Math.random()}`.padEnd(20_000).split(''))),
    /heap: [\d.]+ MB -> [\d.]+ MB/,
  ],
]

describe('the check finds', () => {
  test.each(LEAKS)('%s', { timeout: 180_000 }, async (_, plant, found) => {
    const run = soak({ transports, connects: 200, seed: 7, rounds: 2, plant, patience: 500 })
    await expect(run).rejects.toThrow(found)
    for (const timer of kept) clearInterval(timer as NodeJS.Timeout)
    kept.length = 0
    listeners.removeAllListeners()
  })
})
