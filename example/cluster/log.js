// @ts-check
// Chooses the log: Redis, or the primary's memory. The rest of the example is the same for both.
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { clusterLog } from 'koa-sse-pool/cluster'
import { redisLog } from 'koa-sse-pool/redis'
import { createClient } from 'redis'
import { findProgram, freePorts, startProgram } from './parts.js'

/**
 * What a process needs in order to find the log. Without `url`, the log is in the primary's memory.
 *
 * @typedef {{ name: string, key: string, url?: string }} Place
 */

/** Called in every process; for a cluster log also in the primary, which holds the entries. */
export function makeLog(/** @type {Place} */ { url, key }) {
  // The log uses only the client's options and opens connections of its own.
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
    // A new name for each start, because the log is lost with the process.
    return { name: 'clusterLog()', key: `${key}-${Date.now()}`, close: async () => {} }
  }
  // A Redis that we did not start is left running and keeps the numbers: the next start continues there.
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
    throw new Error(`redis-server did not start on port ${port}: is the port taken?`)
  }
  return { name: 'redisLog()', key, url: `redis://127.0.0.1:${port}`, close: redis.close }
}
