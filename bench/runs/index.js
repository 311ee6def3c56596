// @ts-check
// Runs: streams that begin and end and are read from their beginning. Each server is used for the workloads
// that it can do; producer and readers are in one process.
import { isHere, withService } from '../engines/service.js'
import { Pair } from '../parts/pair.js'
import { watchRedis } from './redis.js'
import { RUN_WORKLOADS } from './workloads.js'

/** @type {{ file: string, title: string, redis?: boolean, only?: string[] }[]} */
export const RUN_SERVERS = [
  { file: 'runs-by-hand', title: 'Koa + `res.write`' },
  { file: 'ours', title: 'koa-sse-pool, `broadcast`', only: ['fanOut'] },
  { file: 'runs-ours', title: 'koa-sse-pool, memory' },
  { file: 'runs-ours-redis', title: 'koa-sse-pool, Redis', redis: true },
  {
    file: 'runs-resumable-first',
    title: 'resumable-stream, first reader',
    redis: true,
    only: ['append', 'single', 'steady'],
  },
  { file: 'runs-resumable', title: 'resumable-stream, resumed', redis: true },
  { file: 'runs-durable-streams', title: 'Durable Streams reference' },
]

export const RUN_ROWS = Object.assign({}, ...Object.values(RUN_WORKLOADS).map(({ rows }) => rows))

/**
 * One round of one server.
 *
 * @param {typeof RUN_SERVERS[number]} server
 * @param {(metric: string, value: number) => void} report
 * @param {(workload: string, error: Error) => void} fail
 */
export async function measureRuns({ file, redis: hasRedis, only }, report, fail) {
  if (hasRedis && !isHere('redis')) throw new Error('redis-server is not installed')
  for (const [name, { settings = {}, run }] of Object.entries(RUN_WORKLOADS)) {
    if (only && !only.includes(name)) continue
    const start = performance.now()
    try {
      await withService(hasRedis ? 'redis' : '', async address => {
        const redis = hasRedis ? await watchRedis(address) : undefined
        try {
          const all = { ...settings, redis: address }
          await Pair.with(file, all, pair => run(pair, report, redis))
        } finally {
          redis?.close()
        }
      })
    } catch (error) {
      fail(name, /** @type {Error} */ (error))
    }
    process.stderr.write(` ${name} ${((performance.now() - start) / 1000).toFixed(1)} s`)
  }
}
