/** An open file, with the statements that the log runs on it. */
import { statSync } from 'node:fs'
import { Connection } from '../log/connection.js'
import type { Entry } from '../log/log.js'
import { escapeText } from '../log/table.js'
import { whenFree } from './busy.js'
import {
  type Database,
  findDriver,
  type Row,
  type SqliteDatabase,
  type Statement,
} from './driver.js'
import { errorKind } from './errors.js'
import type { ResolvedOptions } from './options.js'
import {
  countTables,
  createTables,
  deleteOldest,
  findGeneration,
  findNewest,
  findNonce,
  findStart,
  insertEntry,
  type Names,
  readPage,
} from './schema.js'

/**
 * To what the `-wal` file is shortened, in bytes. SQLite begins it again from 4 MB on, whenever nobody reads it. But
 * while somebody does, such as a backup, it grows, and would keep its greatest size for good.
 */
const WAL_LIMIT = 16 * 1024 * 1024

/** So that the connection is not given up while it waits for a lock, in ms. */
const MARGIN_MS = 5000

export interface EntryRow {
  readonly position: number
  readonly nonce: string
  readonly target: string
  readonly key: string | null
  readonly frame: string
}

/** Where an entry was stored. */
export interface Place {
  readonly generation: string
  readonly position: number
  readonly nonce: string
}

/** The newest entry. */
export interface Newest {
  readonly generation: string
  /** Null if the table is empty. */
  readonly position: number | null
  readonly nonce: string
  readonly total: number
}

export class SqliteConnection extends Connection {
  readonly #options: ResolvedOptions
  readonly #names: Names
  readonly #statements = new Map<(names: Names) => string, Statement>()
  #database: Database | undefined
  #file: string | undefined
  #version: unknown

  constructor(options: ResolvedOptions, names: Names) {
    super(options.timeout + MARGIN_MS)
    this.#options = options
    this.#names = names
  }

  /** @throws Error if the file was deleted or replaced: what is open here is only what is left of the old one. */
  checkFile(): void {
    if (fileOf(this.#options.path) === this.#file) return
    const error = new Error('the file was deleted or replaced')
    this.destroy(error)
    throw error
  }

  /** Whether another connection has committed since the last call; own commits do not count. */
  hasChanged(): boolean {
    const version = this.#prepared(dataVersion).get()?.data_version
    if (version === this.#version) return false
    this.#version = version
    return true
  }

  newest(): Newest | undefined {
    return this.#prepared(findNewest).get() as unknown as Newest | undefined
  }

  /** The first position of the window that ends with this entry. */
  start({ position, total }: Newest): number {
    const { maxEntries, windowBytes } = this.#options
    const values = { position, total, maxEntries, windowBytes }
    return this.#prepared(findStart).get(values)?.position as number
  }

  page(from: number, count: number): EntryRow[] {
    return this.#prepared(readPage).all(from, count) as unknown as EntryRow[]
  }

  /** Runs the steps in one transaction. @throws CommitError if they may be stored although the commit has failed. */
  transact<Result>(run: () => Result): Result {
    // What is written to a deleted file is lost.
    this.checkFile()
    this.#prepared(begin).run()
    let result: Result
    try {
      result = run()
    } catch (error) {
      rollBack(this.#opened)
      throw error
    }
    try {
      this.#prepared(commit).run()
    } catch (error) {
      rollBack(this.#opened)
      // A full disk has not taken the last page, without which the transaction does not count.
      throw errorKind(error) === 'SQLITE_FULL' ? error : new CommitError(error)
    }
    return result
  }

  /** Stores an entry; returns its place, also if it was stored before. */
  insert(entry: Omit<Entry, 'id'>): Place {
    const find = () => this.#prepared(findNonce)
    return insertInto(this.#prepared(insertEntry), find, entry)
  }

  /** Deletes old entries, looking at this many at most. Returns how many it has deleted. */
  deleteOldest(count: number): number {
    const { maxEntries, maxBytes, maxAge } = this.#options
    const newest = this.newest()
    if (newest?.position == null) return 0
    const { position, total } = newest
    const before = maxAge === undefined ? 0 : Date.now() - maxAge
    const values = { count, position, total, maxEntries, maxBytes, before }
    return Number(this.#prepared(deleteOldest).run(values).changes)
  }

  protected override async dial(): Promise<void> {
    const { path, synchronous, driver, timeout } = this.#options
    this.#database = new (findDriver(driver))(path)
    // Whoever needs a lock asks again: busy.ts.
    this.#opened.exec('PRAGMA busy_timeout = 0')
    await whenFree(timeout, () => this.#useWal())
    this.#opened.exec(`PRAGMA synchronous = ${synchronous}`)
    this.#opened.exec(`PRAGMA journal_size_limit = ${WAL_LIMIT}`)
    await whenFree(timeout, () => this.#createTables())
    this.#file = fileOf(path)
  }

  protected override hangUp(): void {
    this.#statements.clear()
    this.#database?.close()
    this.#database = undefined
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
    const hasTables = this.#opened.prepare(countTables(this.#names)).get()?.count === 2
    if (hasTables && this.#opened.prepare(findGeneration(this.#names)).get() !== undefined) return
    try {
      this.#opened.exec(createTables(this.#names))
    } catch (error) {
      rollBack(this.#opened)
      throw error
    }
  }

  #prepared(sql: (names: Names) => string): Statement {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#opened.prepare(sql(this.#names))
    this.#statements.set(sql, statement)
    return statement
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

export function insertInto(
  insert: Statement,
  find: () => Statement,
  { nonce, target, key, frame }: Omit<Entry, 'id'>,
): Place {
  const texts = [escapeText(target), key === undefined ? null : escapeText(key), escapeText(frame)]
  let size = 64
  for (const text of texts) if (text !== null) size += Buffer.byteLength(text)
  const row = insert.get(nonce, ...texts, size, Date.now()) ?? find().get(nonce)
  return row as unknown as Place & Row
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

const begin = () => 'BEGIN IMMEDIATE'
const commit = () => 'COMMIT'
const dataVersion = () => 'PRAGMA data_version'
