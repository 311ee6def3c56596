/**
 * The two drivers, which have the same methods as far as they are used here. Both are synchronous: SQLite runs in
 * this process, and most statements take less time than it takes to hand them to a thread.
 */
import { createRequire } from 'node:module'
import { SseError } from '../lib/errors.js'

/** A connection: a `DatabaseSync` of `node:sqlite`, or a `Database` of better-sqlite3. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): unknown
  close(): unknown
}

type Value = string | number | null
export type Row = Record<string, Value>

export interface Statement {
  get(...values: (Value | Row)[]): Row | undefined
  all(...values: (Value | Row)[]): Row[]
  run(...values: (Value | Row)[]): { readonly changes: number | bigint }
}

/** The same with the types of what is used of it. */
export interface Database extends SqliteDatabase {
  prepare(sql: string): Statement
  /** Of better-sqlite3. */
  readonly inTransaction?: boolean
  /** Of `node:sqlite`, since Node 22.16. */
  readonly isTransaction?: boolean
}

export type Driver = new (path: string) => Database

/** How results are returned, which an app can change for all statements of its connection. */
interface ResultSettings {
  setReadBigInts?(isOn: boolean): unknown
  setReturnArrays?(isOn: boolean): unknown
  safeIntegers?(isOn: boolean): unknown
}

/**
 * @param where what the error message begins with.
 * @returns The given class, or else that of `node:sqlite`, or else that of better-sqlite3.
 * @throws SseError `ERR_SSE_LOG_DOWN` if there is neither.
 */
export function findDriver(given: Driver | undefined, where = 'sqliteLog()'): Driver {
  return given ?? builtIn() ?? installed(where)
}

/** Node has it since 22.5, and without a flag since 22.13. */
function builtIn(): Driver | undefined {
  const sqlite = process.getBuiltinModule?.('node:sqlite')
  return (sqlite as { readonly DatabaseSync: Driver } | undefined)?.DatabaseSync
}

function installed(where: string): Driver {
  try {
    return createRequire(import.meta.url)('better-sqlite3')
  } catch (cause) {
    const why = `Node ${process.version} has no node:sqlite, and better-sqlite3 cannot be loaded`
    const fix = 'use Node 22.13 or newer, or run: npm install better-sqlite3@12'
    throw new SseError('ERR_SSE_LOG_DOWN', `${where}: ${why}; ${fix}`, { cause })
  }
}

/** Prepares a statement on a connection of the app's, whose results shall be like those of our own. */
export function preparePlain(database: Database, sql: string): Statement {
  const statement = database.prepare(sql)
  const settings = statement as ResultSettings
  settings.setReadBigInts?.(false)
  settings.setReturnArrays?.(false)
  settings.safeIntegers?.(false)
  return statement
}
