/** An open file. */
import { statSync } from 'node:fs'
import { Connection } from '../log/connection.js'
import { whenFree } from './busy.js'
import type { Database, Driver, SqliteDatabase, Statement } from './driver.js'
import { errorKind } from './errors.js'

/**
 * To what the `-wal` file is shortened, in bytes. SQLite begins it again from 4 MB on, whenever nobody reads it. But
 * while somebody does, such as a backup, it grows, and would keep its greatest size for good.
 */
const WAL_LIMIT = 16 * 1024 * 1024

/** So that the connection is not given up while it waits for a lock, in ms. */
const MARGIN_MS = 5000

/** How a file is opened. */
export interface FileOptions {
  readonly path: string
  readonly synchronous: 'normal' | 'full'
  /** How long to wait for a lock, in ms. */
  readonly timeout: number
  readonly driver: Driver
}

/** A statement, of the names of the tables. */
export type Sql<Names> = (names: Names) => string

/** One connection to the tables of a log or a store, which adds its statements. */
export abstract class SqliteConnection<Names> extends Connection {
  readonly #file: FileOptions
  readonly #names: Names
  readonly #statements = new Map<Sql<Names>, Statement>()
  #database: Database | undefined
  #identity: string | undefined
  #version: unknown

  constructor(file: FileOptions, names: Names) {
    super(file.timeout + MARGIN_MS)
    this.#file = file
    this.#names = names
  }

  /** Whether the tables are there; only reads. */
  protected abstract hasTables(): boolean
  /** Creates the tables if they are missing, in a transaction. */
  protected abstract readonly creation: Sql<Names>

  /** @throws Error if the file was deleted or replaced: what is open here is only what is left of the old one. */
  checkFile(): void {
    if (fileOf(this.#file.path) === this.#identity) return
    const error = new Error('the file was deleted or replaced')
    this.destroy(error)
    throw error
  }

  /** Whether another connection has committed since the last call; own commits do not count. */
  hasChanged(): boolean {
    const version = this.prepared(dataVersion).get()?.data_version
    if (version === this.#version) return false
    this.#version = version
    return true
  }

  /** Runs the steps in one transaction. @throws CommitError if they may be stored although the commit has failed. */
  transact<Result>(run: () => Result): Result {
    // What is written to a deleted file is lost.
    this.checkFile()
    this.prepared(begin).run()
    let result: Result
    try {
      result = run()
    } catch (error) {
      rollBack(this.#opened)
      throw error
    }
    try {
      this.prepared(commit).run()
    } catch (error) {
      rollBack(this.#opened)
      // A full disk has not taken the last page, without which the transaction does not count.
      throw errorKind(error) === 'SQLITE_FULL' ? error : new CommitError(error)
    }
    try {
      // It may have been deleted in the meantime: the system can stop a process anywhere.
      this.checkFile()
    } catch (error) {
      throw new CommitError(error)
    }
    return result
  }

  /** Runs the steps on one state of the file, whatever others commit meanwhile. */
  read<Result>(run: () => Result): Result {
    this.prepared(beginRead).run()
    try {
      return run()
    } finally {
      rollBack(this.#opened)
    }
  }

  protected override async dial(): Promise<void> {
    const { synchronous, timeout } = this.#file
    this.#openFile()
    // Whoever needs a lock asks again: busy.ts.
    this.#opened.exec('PRAGMA busy_timeout = 0')
    await whenFree(timeout, () => this.#useWal())
    this.#opened.exec(`PRAGMA synchronous = ${synchronous}`)
    this.#opened.exec(`PRAGMA journal_size_limit = ${WAL_LIMIT}`)
    await whenFree(timeout, () => this.#createTables())
  }

  /** Until it is certain which file is open: it may be deleted and made again in the meantime. */
  #openFile(): void {
    const { path, driver: Driver } = this.#file
    do {
      this.#database?.close()
      this.#identity = fileOf(path)
      this.#database = new Driver(path)
    } while (fileOf(path) !== this.#identity)
  }

  protected override hangUp(): void {
    this.#statements.clear()
    this.#database?.close()
    this.#database = undefined
  }

  protected prepared(sql: Sql<Names>): Statement {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#opened.prepare(sql(this.#names))
    this.#statements.set(sql, statement)
    return statement
  }

  get #opened(): Database {
    if (this.#database === undefined) throw new Error('the connection is closed')
    return this.#database
  }

  #useWal(): void {
    const mode = this.#opened.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode
    if (mode === 'wal') return
    throw new Error(
      `the file cannot be in WAL mode, only in "${mode}"; the option path must be on a local disk`,
    )
  }

  #createTables(): void {
    // Reads first: writing has to wait for the transactions of others.
    if (this.hasTables()) return
    try {
      this.#opened.exec(this.creation(this.#names))
    } catch (error) {
      rollBack(this.#opened)
      throw error
    }
  }
}

/** The transaction may have been committed or not. */
export class CommitError extends Error {
  override readonly cause: unknown
  constructor(cause: unknown) {
    super('COMMIT failed')
    this.cause = cause
  }
}

/** After some errors, such as of a full disk, SQLite has rolled back already. */
export function rollBack(database: SqliteDatabase): void {
  try {
    database.exec('ROLLBACK')
  } catch {}
}

/** What tells a file from every other one, whatever its path; undefined if there is none. */
export function fileOf(path: string): string | undefined {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stats && `${stats.dev} ${stats.ino}`
}

/** How many of these tables there are. */
export function countTables(quoted: readonly string[]): string {
  const names = quoted.map(name => name.replaceAll('"', "'")).join(', ')
  return `SELECT count(*) AS count FROM sqlite_schema WHERE type = 'table' AND name IN (${names})`
}

const begin = () => 'BEGIN IMMEDIATE'
const beginRead = () => 'BEGIN'
const commit = () => 'COMMIT'
const dataVersion = () => 'PRAGMA data_version'
