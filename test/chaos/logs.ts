/** What a server process opens on its engine: logs, a store of runs, and transactions of the app. */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect } from '@nats-io/transport-node'
import { Redis } from 'ioredis'
import pg from 'pg'
import type { EventLog } from '../../src/log/log.js'
import type { RunStore } from '../../src/log/run-store.js'
import { natsLog } from '../../src/nats/index.js'
import { postgresLog, postgresRuns } from '../../src/postgres/index.js'
import { redisLog, redisRuns } from '../../src/redis/index.js'
import { type Database, type Driver, findDriver } from '../../src/sqlite/driver.js'
import { isBusy } from '../../src/sqlite/errors.js'
import { sqliteLog, sqliteRuns } from '../../src/sqlite/index.js'
import type { ServerConfig } from './messages.js'

/** How long the logs wait for a reply or a lock, in ms. */
const TIMEOUT_MS = 1500

export interface Transaction {
  /** What the option `transaction` of `pool.send` takes. */
  readonly handle: object
  /** Changes a row of the app, which no other transaction can until this one is over. */
  change(account: number): Promise<void>
  commit(): Promise<'acknowledged' | 'rejected' | 'uncertain'>
  rollback(): Promise<void>
}

export interface EngineClient {
  log(name: string): Promise<EventLog>
  runs?(): Promise<RunStore>
  begin?(): Promise<Transaction>
}

export function connectTo(config: ServerConfig): EngineClient {
  switch (config.engine) {
    case 'redis':
      return redisClient(config)
    case 'nats':
      return natsClient(config)
    case 'postgres':
      return postgresClient(config)
    case 'sqlite':
      return sqliteClient(config)
  }
}

function redisClient({ address, maxEntries }: ServerConfig): EngineClient {
  const client = () => new Redis(Number(address), '127.0.0.1', { lazyConnect: true })
  const timeout = TIMEOUT_MS
  return {
    async log(key) {
      return redisLog({ client: client(), key, maxEntries, timeout, blockMs: 1000 })
    },
    async runs() {
      return redisRuns({ client: client(), key: 'runs', timeout })
    },
  }
}

function natsClient({ address, maxEntries }: ServerConfig): EngineClient {
  return {
    async log(stream) {
      const connection = connect({
        servers: `127.0.0.1:${address}`,
        maxReconnectAttempts: -1,
        reconnectTimeWait: 50,
        waitOnFirstConnect: true,
      })
      return natsLog({ connection, stream, maxEntries, timeout: TIMEOUT_MS })
    },
  }
}

function postgresClient({ address, maxEntries }: ServerConfig): EngineClient {
  const server = { host: '127.0.0.1', port: Number(address), user: 'postgres' }
  const pool = new pg.Pool({ ...server, database: 'postgres' })
  const timeout = TIMEOUT_MS
  return {
    async log(table) {
      const log = postgresLog({ pool, table, maxEntries, timeout })
      await created(log)
      return log
    },
    async runs() {
      const store = postgresRuns({ pool, table: 'runs', timeout })
      await created(store)
      return store
    },
    begin: () => beginOnPostgres(server),
  }
}

/** As an app that is started again until it finds its database. */
async function created(tables: { createTable(): Promise<void> }): Promise<void> {
  for (;;) {
    try {
      await tables.createTable()
      return
    } catch {
      await pause(100)
    }
  }
}

async function beginOnPostgres(server: pg.ClientConfig): Promise<Transaction> {
  const client = new pg.Client({
    ...{ ...server, database: 'postgres' },
    connectionTimeoutMillis: TIMEOUT_MS,
    query_timeout: 2 * TIMEOUT_MS,
  })
  client.on('error', () => {})
  // Without a word: a server that hangs would not answer it, and one that sees this rolls back.
  const hangUp = () => {
    const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } })
      .connection
    stream.destroy()
  }
  try {
    await client.connect()
    await client.query('BEGIN')
  } catch (error) {
    hangUp()
    throw error
  }
  return {
    handle: client,
    async change(account) {
      await client.query('UPDATE accounts SET changes = changes + 1 WHERE id = $1', [account])
    },
    async commit() {
      try {
        const { command } = await client.query('COMMIT')
        return command === 'COMMIT' ? 'acknowledged' : 'rejected'
      } catch (error) {
        return (error as { severity?: string }).severity === 'ERROR' ? 'rejected' : 'uncertain'
      } finally {
        hangUp()
      }
    },
    async rollback() {
      hangUp()
    },
  }
}

function sqliteClient({ address: path, maxEntries, betterSqlite }: ServerConfig): EngineClient {
  const driver = process.getBuiltinModule?.('node:sqlite')
    ? undefined
    : createRequire(join(betterSqlite, 'package.json'))('better-sqlite3')
  const timeout = TIMEOUT_MS
  return {
    async log(table) {
      return sqliteLog({ path, table, driver, maxEntries, timeout })
    },
    async runs() {
      return sqliteRuns({ path, driver, timeout })
    },
    begin: () => beginOnSqlite(findDriver(driver), path),
  }
}

async function beginOnSqlite(Driver: Driver, path: string): Promise<Transaction> {
  const database = new Driver(path)
  try {
    await locked(database)
  } catch (error) {
    database.close()
    throw error
  }
  return {
    handle: database,
    async change() {},
    async commit() {
      try {
        database.exec('COMMIT')
        return 'acknowledged'
      } catch {
        return 'uncertain'
      } finally {
        database.close()
      }
    },
    async rollback() {
      database.close()
    },
  }
}

async function locked(database: Database): Promise<void> {
  // SQLite's own waiting would stop the process.
  database.exec('PRAGMA busy_timeout = 0')
  for (const start = performance.now(); ; ) {
    try {
      database.exec('BEGIN IMMEDIATE')
      return
    } catch (error) {
      if (!isBusy(error) || performance.now() - start > TIMEOUT_MS) throw error
    }
    await pause(2)
  }
}
