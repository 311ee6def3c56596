/** Runs in a file of SQLite, for the processes of one machine: they survive restarts. */
import { ManagedConnection } from '../log/connection.js'
import type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunPage,
  RunRecord,
  RunStore,
} from '../log/run-store.js'
import { Pending } from '../log/shared.js'
import type { RunListener } from '../log/watcher.js'
import { whenFree } from './busy.js'
import { CommitError } from './connection.js'
import { downError, uncertainError } from './errors.js'
import { Follower } from './follower.js'
import { type ResolvedRunsOptions, resolveRunsOptions, type SqliteRunsOptions } from './options.js'
import { RunRules } from './run-rules.js'
import { RunWatch } from './run-watch.js'
import { RunsConnection } from './runs-connection.js'
import { runNamesOf } from './runs-schema.js'
import { stored } from './text.js'
import { Writer } from './writer.js'

/** How often expired runs are removed, in milliseconds. An expired run is never shown, removed or not. */
const SWEEP_MS = 30_000

/** How many runs are looked at in one transaction of the removal. */
const SWEEP_RUNS = 100

/** How many changes a process may be behind. Beyond that all of its watchers read. */
const KEPT_CHANGES = 10_000

/**
 * Stores runs in tables of an SQLite file, so that they survive a restart, and all processes of this machine that
 * open the file share them. Calls reject with `ERR_SSE_LOG_DOWN` if nothing was stored, and with
 * `ERR_SSE_LOG_UNCERTAIN` if the commit itself failed.
 *
 * Texts are stored as UTF-8, so a lone surrogate becomes U+FFFD.
 *
 * @example
 * ```js
 * import { Runs } from 'koa-sse-pool/runs'
 * import { sqliteRuns } from 'koa-sse-pool/sqlite'
 *
 * const runs = new Runs({ pool, store: sqliteRuns({ path: 'data/app.db' }) })
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid; `SseError` with `ERR_SSE_LOG_DOWN` if
 * there is no driver: Node before 22.13 needs the package better-sqlite3.
 */
export function sqliteRuns(options: SqliteRunsOptions): RunStore {
  return new SqliteRuns(options)
}

class SqliteRuns implements RunStore {
  readonly linger = 0
  readonly #options: ResolvedRunsOptions
  readonly #connection: ManagedConnection<RunsConnection>
  readonly #writer: Writer<RunsConnection>
  readonly #follower: Follower
  readonly #watch = new RunWatch()
  readonly #pending = new Pending<unknown>()
  /** The ids of runs that were read and are yet to be kept from expiring. */
  #touched = new Set<string>()
  #sweeper: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  constructor(options: SqliteRunsOptions) {
    this.#options = resolveRunsOptions(options)
    const { table, timeout } = this.#options
    const names = runNamesOf(table)
    this.#follower = new Follower(this.#options)
    this.#connection = new ManagedConnection({
      create: () => new RunsConnection(this.#options, names),
      use: async (connection, onHealthy) => {
        this.#watch.begin(connection)
        try {
          const read = () => this.#watch.read(connection)
          return await this.#follower.follow(connection, onHealthy, read)
        } finally {
          this.#watch.end()
        }
      },
      // The next call rejects with the error.
      onFail: () => {},
    })
    this.#writer = new Writer({
      connection: () => this.#connection.get(),
      timeout,
      onWritten: () => this.#follower.wake(),
    })
  }

  create(id: string, creation: RunCreation): Promise<RunCreated> {
    const size = (creation.entries ?? []).reduce((sum, entry) => sum + entry.length, 0)
    return this.#write(size, rules => rules.create(id, creation))
  }

  append(id: string, addition: RunAddition): Promise<RunAppended> {
    const size = addition.entries.reduce((sum, entry) => sum + entry.length, 0)
    return this.#write(size, rules => rules.append(id, addition))
  }

  async read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined> {
    const page = await this.#read(id, after, limits)
    if (page?.run.ttl !== undefined) this.#touch(id)
    return page
  }

  async get(id: string): Promise<RunRecord | undefined> {
    return (await this.#read(id, 0, { entries: 0, length: 0 }))?.run
  }

  renew(id: string): Promise<RunRecord | undefined> {
    return this.#write(0, rules => rules.renew(id))
  }

  delete(id: string): Promise<RunRecord | undefined> {
    return this.#write(0, rules => rules.delete(id))
  }

  watch(id: string, listener: RunListener): () => void {
    if (this.#closing) return () => {}
    this.#open()
    return this.#watch.watch(stored(id), listener)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#sweeper)
    this.#watch.close()
    await Promise.allSettled([this.#pending.settled(), this.#writer.settled()])
    await this.#connection.close()
  }

  /** With the first call, so that a store that nobody uses opens no file. */
  #open(): void {
    this.#connection.open()
    this.#sweeper ??= setInterval(() => void this.#sweep(), SWEEP_MS).unref()
  }

  async #read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined> {
    const page = await this.#look(rules => rules.read(id, after, limits))
    if (page !== 'to settle') return page
    await this.#write(0, rules => rules.find(id))
    const settled = await this.#look(rules => rules.read(id, after, limits))
    // The run has begun again, and its lease is over again, within a turn.
    return settled === 'to settle' ? this.#read(id, after, limits) : settled
  }

  /** Reads without the write lock, so that no transaction of the app makes readers wait. */
  async #look<Result>(read: (rules: RunRules) => Result): Promise<Result> {
    try {
      this.#checkOpen()
      const connection = await this.#connection.get()
      const run = () => connection.read(() => read(new RunRules(connection)))
      const result = await whenFree(this.#options.timeout, run)
      // A deleted file has no new runs, and readers who are told that theirs is unknown never come back.
      if (result === undefined) connection.checkFile()
      return result
    } catch (error) {
      throw downError('the run cannot be read', error, 'sqliteRuns()')
    }
  }

  #write<Result>(size: number, change: (rules: RunRules) => Result): Promise<Result> {
    const written = async () => {
      try {
        this.#checkOpen()
        return await this.#writer.write(size, connection => change(new RunRules(connection)))
      } catch (error) {
        if (!(error instanceof CommitError)) throw downError('not stored', error, 'sqliteRuns()')
        throw uncertainError('the change may or may not be stored', error.cause, 'sqliteRuns()')
      }
    }
    return this.#pending.add(written()) as Promise<Result>
  }

  #checkOpen(): void {
    if (this.#closing) throw new Error('the store is closed')
    this.#open()
  }

  /** Once per turn for all that were read in it. The reader does not wait, and the next read tries again. */
  #touch(id: string): void {
    const { size } = this.#touched
    this.#touched.add(id)
    if (size > 0) return
    this.#write(0, rules => {
      const ids = this.#touched
      this.#touched = new Set()
      for (const each of ids) rules.touch(each)
    }).catch(() => this.#touched.clear())
  }

  async #sweep(): Promise<void> {
    try {
      for (let after: number | undefined = 0; after !== undefined && !this.#closing; ) {
        const from: number = after
        after = await this.#write(0, rules => rules.sweep(from, SWEEP_RUNS))
      }
      await this.#writer.write(0, connection => connection.forgetChanges(KEPT_CHANGES))
    } catch {
      // It is tried again, and every call says what is wrong.
    }
  }
}
