/**
 * The log as a table in a file of SQLite, and runs, for the processes of one machine: they survive restarts, and there
 * is no server to set up. Events can be stored in the app's own transactions.
 *
 * **Order.** SQLite has one writer at a time, so entries become visible in the order of their positions (schema.ts).
 *
 * **Waking the others.** Nobody is told of a commit, so each process watches the `-wal` file (bell.ts).
 *
 * **The event loop** stands still while SQLite reads or writes. So what is sent in one turn is one transaction, pages
 * are short, and a lock that another connection holds is not waited for but asked for again (writer.ts, busy.ts).
 *
 * @module koa-sse-pool/sqlite
 */
import { nonceSource } from '../lib/random.js'
import { ManagedConnection } from '../log/connection.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { checkNonce, Health, Pending } from '../log/shared.js'
import { compareIds, entryId } from '../log/table.js'
import { whenFree } from './busy.js'
import { CommitError } from './connection.js'
import { downError, errorKind, uncertainError } from './errors.js'
import { Follower } from './follower.js'
import { LogConnection, type Place } from './log-connection.js'
import { type ResolvedOptions, resolveOptions, type SqliteLogOptions } from './options.js'
import { namesOf } from './schema.js'
import { Tail } from './tail.js'
import { Transactions } from './transaction.js'
import { Writer } from './writer.js'

export type { SqliteDatabase } from './driver.js'
export type { SqliteLogOptions, SqliteRunsOptions } from './options.js'
export { sqliteRuns } from './runs.js'

/** How often old entries are deleted if nothing is appended: they may be too old. */
const TRIM_INTERVAL_MS = 30_000

/** How many entries are deleted in one transaction. */
const TRIM_ENTRIES = 250

/** The log that {@link sqliteLog} returns; pass it to `new ClientPool({ log })`. */
export interface SqliteLog extends EventLog {
  readonly takesTransactions: true
  /**
   * Stores an entry. With a transaction, which is a {@link SqliteDatabase} on which `BEGIN IMMEDIATE` was run, it is
   * stored before this returns, so it also works in a synchronous transaction such as better-sqlite3's
   * `db.transaction()`. If it cannot be stored, the transaction is rolled back and its COMMIT fails.
   */
  append(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string>
}

/**
 * Stores the events of a pool in a table of an SQLite file, so that they survive a restart, and all processes of this
 * machine that open the file share them. Takes the option `transaction` of `pool.send`: the event is delivered after
 * the commit and never after a rollback.
 *
 * An append rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the event was not stored, such as on a full disk;
 * `ERR_SSE_LOG_UNCERTAIN` if the commit itself failed; `error.retry()` then stores it once, whatever had happened.
 *
 * @example
 * ```js
 * import { DatabaseSync } from 'node:sqlite'
 * import { ClientPool } from 'koa-sse-pool'
 * import { sqliteLog } from 'koa-sse-pool/sqlite'
 *
 * const pool = new ClientPool({ log: sqliteLog({ path: 'app.db' }) })
 * const db = new DatabaseSync('app.db')
 *
 * db.exec('BEGIN IMMEDIATE')
 * db.prepare('INSERT INTO orders …').run()
 * await pool.send('ada', { event: 'order', data: order }, { transaction: db })
 * db.exec('COMMIT')
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid; `SseError` with `ERR_SSE_LOG_DOWN` if
 * there is no driver: Node before 22.13 needs the package better-sqlite3.
 */
export function sqliteLog(options: SqliteLogOptions): SqliteLog {
  return new SqliteTableLog(options)
}

class SqliteTableLog implements SqliteLog {
  readonly engine = 'SQLite'
  readonly takesTransactions = true
  readonly #options: ResolvedOptions
  readonly #nonce = nonceSource()
  readonly #writer: Writer<LogConnection>
  readonly #follower: Follower
  readonly #transactions: Transactions
  readonly #pending = new Pending<string>()
  readonly #connection: ManagedConnection<LogConnection>
  /** Undefined until the log is opened. */
  #health: Health | undefined
  #tail: Tail | undefined
  #untrimmed = 0
  #trimming: Promise<void> | undefined
  #trimTimer: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  constructor(options: SqliteLogOptions) {
    this.#options = resolveOptions(options)
    const { path, table, timeout, driver } = this.#options
    const names = namesOf(table)
    this.#transactions = new Transactions(path, names, driver)
    this.#connection = new ManagedConnection({
      create: () => new LogConnection(this.#options, names),
      use: async (connection, onHealthy) => {
        const tail = this.#tail as Tail
        await tail.open(connection)
        const isHealthy = () => {
          onHealthy()
          this.#health?.setUp(true)
        }
        return this.#follower.follow(connection, isHealthy, () => tail.read(connection))
      },
      onFail: error => {
        this.#health?.report(errorKind(error), downError('the file is out of reach', error))
        this.#health?.setUp(false)
      },
    })
    this.#follower = new Follower(this.#options)
    this.#writer = new Writer({
      connection: () => this.#connection.get(),
      timeout,
      onWritten: count => {
        this.#follower.wake()
        this.#trimAfter(count)
      },
    })
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#health !== undefined)
      throw new TypeError('sqliteLog(): a log can be opened once; create one for each pool')
    if (this.#closing) throw downError('cannot open', new Error('the log was closed'))
    this.#health = new Health(sink)
    return new Promise(resolve => {
      this.#tail = new Tail({
        ...this.#options,
        sink: {
          reset: (window, reason) => {
            sink.reset(window, reason)
            resolve()
          },
          append: entries => sink.append(entries),
        },
        mark: connection => this.#mark(connection),
      })
      this.#connection.open()
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
    try {
      const connection = await this.#connection.get()
      // By a deleted file, the cursor of a client that has been to another process would be unknown.
      connection.checkFile()
      const newest = await this.#whenFree(() => connection.newest())
      if (newest?.position == null) return null
      return entryId(newest.generation, newest.position, newest.nonce)
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
    await Promise.allSettled([this.#pending.settled(), this.#writer.settled(), this.#trimming])
    await this.#connection.close()
  }

  /** Without a pause before the insert: a synchronous transaction has ended by the next turn. */
  async #append(entry: Omit<Entry, 'id'>, transaction: unknown): Promise<string> {
    checkNonce(entry.nonce)
    if (this.#closing) throw downError('not stored', new Error('the log is closed'))
    const { generation, position, nonce } =
      transaction === undefined ? await this.#store(entry) : this.#insert(entry, transaction)
    return entryId(generation, position, nonce)
  }

  async #store(entry: Omit<Entry, 'id'>): Promise<Place> {
    const size = entry.frame.length + entry.target.length
    try {
      return await this.#writer.write(size, connection => connection.insert(entry))
    } catch (error) {
      if (error instanceof CommitError)
        throw uncertainError('the entry may or may not be stored', error.cause)
      throw downError('not stored', error)
    }
  }

  #insert(entry: Omit<Entry, 'id'>, transaction: unknown): Place {
    const place = this.#transactions.insert(transaction, entry)
    this.#trimAfter(1)
    return place
  }

  async #mark(connection: LogConnection): Promise<void> {
    const mark = { nonce: this.#nonce(), target: '', frame: '' }
    await this.#whenFree(() =>
      connection.transact(() => {
        if (connection.newest()?.position === null) connection.insert(mark)
      }),
    )
  }

  /** A look at the oldest entries is worth a query only once enough was appended. */
  #trimAfter(count: number): void {
    this.#untrimmed += count
    if (this.#untrimmed >= Math.min(1000, Math.max(1, this.#options.maxEntries / 10))) this.#trim()
  }

  /** Deletes old entries in small steps. The next appends try again if it fails. */
  #trim(): void {
    this.#trimming ??= this.#deleteOld()
      .catch(error => {
        if (!this.#closing)
          this.#health?.report(errorKind(error), downError('cannot delete old entries', error))
      })
      .finally(() => {
        this.#trimming = undefined
      })
  }

  async #deleteOld(): Promise<void> {
    this.#untrimmed = 0
    const connection = await this.#connection.get()
    const step = () => connection.transact(() => connection.deleteOldest(TRIM_ENTRIES))
    while (!this.#closing) {
      const deleted = await this.#whenFree(step)
      if (deleted < TRIM_ENTRIES) return
      await new Promise(setImmediate)
    }
  }

  #whenFree<Result>(run: () => Result): Promise<Result> {
    return whenFree(this.#options.timeout, run)
  }
}
