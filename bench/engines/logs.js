// @ts-check
// The log of each engine, the number of requests it has sent to its server, and the size of an entry
// there.
import { stat } from 'node:fs/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { Redis } from 'ioredis'
import pg from 'pg'
import { createClient } from 'redis'
import { clusterLog } from '../../dist/cluster.js'
import { natsLog } from '../../dist/nats.js'
import { postgresLog } from '../../dist/postgres.js'
import { redisLog } from '../../dist/redis.js'
import { sqliteLog } from '../../dist/sqlite.js'

/** At least one lot, which is published while the receiver is stopped. */
const maxEntries = 30_000

/**
 * @typedef Engine
 * @property {any} [log] absent for the memory log
 * @property {() => number | Promise<number>} [asked] commands or messages that the server received,
 *   or that this process sent to it
 * @property {() => Promise<number>} [bytesOfEntry] in the server
 */

/** @type {Record<string, (address: string) => Engine | Promise<Engine>>} */
export const LOGS = {
  memory: () => ({}),

  redis(address) {
    const client = createClient({ url: address })
    const log = redisLog({ client, key: 'bench', maxEntries })
    const command = async (/** @type {string[]} */ ...args) => {
      if (!client.isOpen) await client.connect()
      return client.sendCommand(args)
    }
    return { log, ...redisFigures(command) }
  },

  ioredis(address) {
    const client = new Redis(address, { lazyConnect: true })
    const log = redisLog({ client, key: 'bench', maxEntries })
    return { log, ...redisFigures((name = '', ...args) => client.call(name, ...args)) }
  },

  async nats(address) {
    const connection = await connect({ servers: address, maxReconnectAttempts: -1 })
    const log = natsLog({ connection, stream: 'bench', maxEntries })
    return {
      log,
      asked: () => connection.stats().outMsgs,
      async bytesOfEntry() {
        const manager = await jetstreamManager(connection)
        const { state } = await manager.streams.info('bench')
        return state.bytes / state.messages
      },
    }
  },

  async postgres(address) {
    const pool = new pg.Pool({ connectionString: address })
    const log = postgresLog({ pool, table: 'bench', maxEntries })
    await log.createTable()
    const one = async (/** @type {string} */ text) => {
      const { rows } = await pool.query({ text, rowMode: 'array' })
      return Number(rows[0]?.[0])
    }
    return {
      log,
      // Without an extension, the server counts transactions but not statements; each of the log's is one.
      asked: () => one("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"),
      bytesOfEntry: () => one("SELECT pg_total_relation_size('bench') / count(*) FROM bench"),
    }
  },

  sqlite(path) {
    const log = sqliteLog({ path, maxEntries })
    // There is no server; each question for the last id is one.
    let asked = 0
    const barrier = log.barrier.bind(log)
    log.barrier = () => {
      asked += 1
      return barrier()
    }
    return {
      log,
      asked: () => asked,
      // By then more was appended than is kept, so the file holds that many.
      bytesOfEntry: async () => (await stat(path)).size / maxEntries,
    }
  },

  cluster() {
    let asked = 0
    const send = process.send?.bind(process)
    process.send = (/** @type {any[]} */ ...args) => {
      if (args[0]?.type === 'koa-sse-pool') asked += 1
      return /** @type {any} */ (send)(...args)
    }
    return { log: clusterLog({ events: maxEntries }), asked: () => asked }
  },
}

/** Called in the primary, which holds the entries. */
export function openHub() {
  clusterLog({ events: maxEntries })
}

/** @param {(...args: string[]) => Promise<unknown>} command @returns {Omit<Engine, 'log'>} */
function redisFigures(command) {
  return {
    async asked() {
      const stats = String(await command('INFO', 'commandstats'))
      let calls = 0
      for (const [, name = '', count] of stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
        // Excludes the commands of a new connection, and this INFO itself.
        if (!/^(info|hello|client|select)/.test(name)) calls += Number(count)
      }
      return calls
    },
    async bytesOfEntry() {
      const bytes = Number(await command('MEMORY', 'USAGE', 'bench', 'SAMPLES', '0'))
      return bytes / Number(await command('XLEN', 'bench'))
    },
  }
}
