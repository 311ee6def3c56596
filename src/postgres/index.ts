/**
 * The log as a table of PostgreSQL 12 or newer, events in the app's own transactions, and a store for
 * {@link postgresRuns | runs}.
 *
 * **Order.** Readers read by position, so a position must become visible only after all lower ones. A
 * sequence alone does not give that: a transaction that takes 1 may commit after one that takes 2, and a
 * reader that has seen 2 never looks for 1 again. So positions are only assigned by a function of the
 * database that holds an advisory lock until its transaction has committed (schema.ts). That is one statement
 * and one round trip: a process that stops in the middle cannot leave the lock behind.
 *
 * **Transactions of the app** would hold that lock for as long as they are open, and stop all others. Their
 * events go to an outbox instead, which has no order and no lock. Whichever process hears of the commit moves
 * them into the log, under the lock.
 *
 * The log opens two connections: one for commands and one that LISTENs and reads (tail.ts).
 *
 * @module koa-sse-pool/postgres
 */
import { got } from '../lib/errors.js'
import { nonceSource } from '../lib/random.js'
import { ManagedConnection } from '../log/connection.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { checkNonce, Health, Pending } from '../log/shared.js'
import { compareIds, entryId, escapeText } from '../log/table.js'
import { Appender, store } from './appender.js'
import { PgConnection } from './connection.js'
import { downError, errorKind } from './errors.js'
import { type PostgresLogOptions, type ResolvedOptions, resolveOptions } from './options.js'
import { createTableSql, type Names, namesOf } from './schema.js'
import { Tail } from './tail.js'

export type { PgPool, PostgresLogOptions, PostgresRunsOptions } from './options.js'
export { createRunsTableSql } from './run-schema.js'
export { type PostgresRuns, postgresRuns } from './runs.js'
export { createTableSql } from './schema.js'

/** How often old entries are deleted if nothing is appended: they may be too old. */
const TRIM_INTERVAL_MS = 30_000

/**
 * What the option `transaction` of `pool.send` takes: the `pg` client that has sent `BEGIN`, TypeORM's
 * `EntityManager`, or an adapter with this method.
 */
export interface PostgresTransaction {
  /** Runs one statement in the transaction. @param text has `$1` to `$4`, each once and in this order. */
  query(text: string, values: (string | null)[]): PromiseLike<unknown>
}

/** The log that {@link postgresLog} returns; pass it to `new ClientPool({ log })`. */
export interface PostgresLog extends EventLog {
  readonly takesTransactions: true
  /**
   * Stores an entry. With a {@link PostgresTransaction}, it resolves to `''` once the row is in the outbox:
   * the entry gets its id after the commit.
   */
  append(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string>
  /**
   * Creates the tables and functions if they are missing, and updates the functions. Safe to call from
   * several processes at once, and before `new ClientPool()`. Rejects with `ERR_SSE_LOG_DOWN`.
   */
  createTable(): Promise<void>
}

/**
 * Stores the events of a pool in a PostgreSQL table, so that all processes with the same `table` share them,
 * and takes the option `transaction` of `pool.send`: the event is delivered after the commit and never after
 * a rollback.
 *
 * An append rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the event was not stored,
 * `ERR_SSE_LOG_UNCERTAIN` if the reply was lost; `error.retry()` then stores it once, whatever had happened.
 * If PostgreSQL is unreachable at the start, the log waits for it.
 *
 * @example
 * ```js
 * import pg from 'pg'
 * import { ClientPool } from 'koa-sse-pool'
 * import { postgresLog } from 'koa-sse-pool/postgres'
 *
 * const db = new pg.Pool({ connectionString: process.env.DATABASE_URL })
 * const log = postgresLog({ pool: db, table: 'app_events' })
 * await log.createTable()
 * const pool = new ClientPool({ log })
 *
 * await client.query('BEGIN')
 * await client.query('INSERT INTO orders …')
 * await pool.send('ada', { event: 'order', data: order }, { transaction: client })
 * await client.query('COMMIT')
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid.
 */
export function postgresLog(options: PostgresLogOptions): PostgresLog {
  return new PostgresTableLog(options)
}

class PostgresTableLog implements PostgresLog {
  readonly engine = 'PostgreSQL'
  readonly takesTransactions = true
  readonly #options: ResolvedOptions
  readonly #names: Names
  readonly #nonce = nonceSource()
  readonly #commands: ManagedConnection<PgConnection>
  readonly #appender: Appender
  #tailConnection: ManagedConnection<PgConnection> | undefined
  /** Undefined until the log is opened. */
  #health: Health | undefined
  readonly #isUp = { commands: true, tail: true }
  readonly #pending = new Pending<string>()
  #untrimmed = 0
  #trimming: Promise<void> | undefined
  #trimTimer: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  constructor(options: PostgresLogOptions) {
    this.#options = resolveOptions(options)
    this.#names = namesOf(this.#options.table)
    const { createClient, timeout } = this.#options
    this.#commands = new ManagedConnection({
      create: () => new PgConnection(createClient, timeout),
      use: async (connection, onHealthy) => {
        onHealthy()
        this.#setUp('commands', true)
        throw await connection.closed
      },
      onFail: error => this.#onFail('commands', error),
    })
    this.#appender = new Appender({
      names: this.#names,
      connection: () => this.#commands.get(),
      onMoveFailed: error => {
        const down = downError('events of committed transactions wait in the outbox', error)
        this.#health?.report(errorKind(error), down)
      },
      onStored: count => {
        this.#untrimmed += count
        if (this.#mayTrim) this.#trim()
      },
    })
  }

  async createTable(): Promise<void> {
    const { createClient, timeout, table } = this.#options
    const connection = new PgConnection(createClient, timeout)
    try {
      await connection.connect()
      // Without parameters, all statements are one transaction.
      await connection.query(createTableSql(table))
    } catch (error) {
      throw downError('the table was not created', error)
    } finally {
      connection.destroy(new Error('the table is created'))
    }
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#health !== undefined)
      throw new TypeError('postgresLog(): a log can be opened once; create one for each pool')
    if (this.#closing) throw downError('cannot open', 'the log was closed')
    this.#health = new Health(sink)
    const { createClient, timeout } = this.#options
    return new Promise(resolve => {
      const tail = new Tail({
        ...this.#options,
        names: this.#names,
        sink: {
          reset: (window, reason) => {
            sink.reset(window, reason)
            resolve()
          },
          append: entries => sink.append(entries),
        },
        mark: async connection => {
          const mark = { nonce: this.#nonce(), target: '', frame: '' }
          await store(connection, this.#names, [mark])
        },
        onOutbox: () => this.#appender.moveOutbox(),
      })
      this.#tailConnection = new ManagedConnection({
        create: () => new PgConnection(createClient, timeout),
        use: (connection, onHealthy) =>
          tail.follow(connection, () => {
            onHealthy()
            this.#setUp('tail', true)
          }),
        onFail: error => this.#onFail('tail', error),
      })
      this.#commands.open()
      this.#tailConnection.open()
      this.#trimTimer = setInterval(() => this.#trim(), TRIM_INTERVAL_MS).unref()
    })
  }

  append(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string> {
    return this.#pending.add(this.#append(entry, transaction))
  }

  compare(a: string, b: string): number {
    return compareIds(a, b)
  }

  async barrier(): Promise<string | null> {
    const { log, state } = this.#names
    try {
      const connection = await this.#commands.get()
      const [last] = await connection.query(
        `SELECT s.generation, e.position, e.nonce FROM ${log} AS e, ${state} AS s
         ORDER BY e.position DESC LIMIT 1`,
      )
      return last === undefined ? null : entryId(...(last as [string, string, string]))
    } catch (error) {
      throw downError('the last id cannot be read', error)
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#trimTimer)
    const stopped = this.#tailConnection?.close()
    // Appends under way still get their reply or their timeout.
    await Promise.allSettled([this.#pending.settled(), this.#appender.settled(), this.#trimming])
    await Promise.all([stopped, this.#commands.close()])
  }

  async #append(entry: Omit<Entry, 'id'>, transaction: unknown): Promise<string> {
    checkNonce(entry.nonce)
    if (transaction !== undefined) checkTransaction(transaction)
    if (this.#closing) throw downError('not stored', 'the log is closed')
    if (transaction === undefined) return this.#appender.append(entry)
    const { nonce, target, key, frame } = entry
    const insert = `INSERT INTO ${this.#names.outbox} (nonce, target, key, frame) VALUES ($1, $2, $3, $4)`
    const keyText = key === undefined ? null : escapeText(key)
    const values = [nonce, escapeText(target), keyText, escapeText(frame)]
    try {
      await transaction.query(insert, values)
      return ''
    } catch (error) {
      // Certain even if the connection was lost: its transaction was not committed yet.
      throw downError('not stored; roll the transaction back', error)
    }
  }

  /** Whether enough was appended since the last time that a look at the oldest entries is worth a query. */
  get #mayTrim(): boolean {
    return this.#untrimmed >= Math.min(1000, Math.max(1, this.#options.maxEntries / 10))
  }

  /** Deletes old entries in small steps. The next appends try again if it fails. */
  #trim(): void {
    const { maxEntries, maxBytes, maxAge = null } = this.#options
    this.#trimming ??= (async () => {
      this.#untrimmed = 0
      const connection = await this.#commands.get()
      const trim = `SELECT ${this.#names.trim}($1, $2, $3)`
      const limits = [maxEntries, maxBytes, maxAge]
      while (!this.#closing) {
        const [row] = await connection.query(trim, limits)
        if (Number(row?.[0]) === 0) return
      }
    })()
      .catch(error => {
        if (!this.#closing)
          this.#health?.report(errorKind(error), downError('cannot delete old entries', error))
      })
      .finally(() => {
        this.#trimming = undefined
        // More was appended than this call has looked at.
        if (this.#mayTrim && !this.#closing) this.#trim()
      })
  }

  #onFail(connection: 'commands' | 'tail', error: unknown): void {
    this.#health?.report(errorKind(error), downError('PostgreSQL is out of reach', error))
    this.#setUp(connection, false)
  }

  #setUp(connection: 'commands' | 'tail', isUp: boolean): void {
    this.#isUp[connection] = isUp
    this.#health?.setUp(this.#isUp.commands && this.#isUp.tail)
  }
}

function checkTransaction(transaction: unknown): asserts transaction is PostgresTransaction {
  const { query, totalCount } = Object(transaction)
  const isPool = typeof totalCount === 'number'
  if (typeof query === 'function' && !isPool) return
  const came = isPool ? 'a pool, whose every query is a transaction of its own' : got(transaction)
  throw new TypeError(
    `append(): transaction must be the pg client that has sent BEGIN, or { query: (text, values) => … } for an ORM; got ${came}`,
  )
}
