// @ts-check
// Where the log is: in Redis, or in the primary's memory. All else of the example is the same.
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { clusterLog } from 'koa-sse-pool/cluster'
import { redisLog } from 'koa-sse-pool/redis'
import { createClient } from 'redis'
import { findProgram, freePorts, startProgram } from './parts.js'

/**
 * What a process needs to know to find the log. Without `url` it is in the primary's memory.
 *
 * @typedef {{ name: string, key: string, url?: string }} Place
 */

/** In every process alike; with a cluster log also in the primary, which keeps it. */
export function makeLog(/** @type {Place} */ { url, key }) {
  // Only the options of the client are used: the log makes connections of its own.
  return url ? redisLog({ client: createClient({ url }), key }) : clusterLog({ name: key })
}

/**
 * @param {'redis' | 'cluster'} [wanted]
 * @returns {Promise<Place & { close(): Promise<void> }>}
 */
export async function startStore(wanted) {
  const { REDIS_URL } = process.env
  const key = 'koa-sse-pool-example'
  const chosen = wanted ?? (REDIS_URL || findProgram('redis-server') ? 'redis' : 'cluster')
  if (chosen === 'cluster') {
    // A name for each start, as the log is as old as its process.
    return { name: 'clusterLog()', key: `${key}-${Date.now()}`, close: async () => {} }
  }
  // Somebody else's is left running, and keeps the numbers: the next start goes on from there.
  if (REDIS_URL) return { name: 'redisLog()', key, url: REDIS_URL, close: async () => {} }

  const [port] = await freePorts(1)
  const redis = await startProgram('redis-server', () =>
    `--port ${port} --bind 127.0.0.1 --appendonly no`.split(' ').concat('--save', ''),
  )
  const lines = createInterface({ input: redis.output })
  const isReady = new Promise(resolve => {
    lines.on('line', line => line.includes('Ready to accept connections') && resolve(true))
  })
  if (!(await Promise.race([isReady, once(lines, 'close').then(() => false)]))) {
    throw new Error(`redis-server does not start on port ${port}`)
  }
  return { name: 'redisLog()', key, url: `redis://127.0.0.1:${port}`, close: redis.close }
}
