// @ts-check
// Where an example keeps what a restart must not lose: in a file of SQLite, or else in memory.
import { mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { memoryRuns } from 'koa-sse-pool/runs'
import { sqliteLog, sqliteRuns } from 'koa-sse-pool/sqlite'

/**
 * JSON values by their keys, in the order in which the keys were first set. A Map is one too. What `get` returns is a
 * copy: `set` it after a change.
 *
 * @template Value
 * @typedef {{
 *   get(key: string): Value | undefined,
 *   set(key: string, value: Value): unknown,
 *   delete(key: string): unknown,
 *   values(): Iterable<Value>,
 * }} Table
 */

/**
 * Opens the file, and creates it and its folder if they are missing. Where there is no SQLite it says so, and what is
 * stored is lost when the process ends. Throws if the file cannot be opened.
 *
 * @param {string} [file] without one, everything is in memory
 * @param {(new (path: string) => any) | undefined} [driver] default: the one that this Node has
 */
export function openStorage(file, driver = file === undefined ? undefined : findSqlite()) {
  if (file === undefined || driver === undefined) {
    if (file !== undefined) console.error(WITHOUT_SQLITE)
    return inMemory()
  }
  mkdirSync(dirname(file), { recursive: true })
  const path = file
  const db = new driver(path)
  // As the log sets them, so that it does not matter which is opened first.
  db.exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
  return {
    /**
     * The log for a pool. Keep as many entries as the pool's window has.
     *
     * @param {{ maxEntries?: number }} [options]
     */
    log: options => sqliteLog({ path, driver, ...options }),
    /** The store for `Runs`, one for each process. */
    runs: () => sqliteRuns({ path, driver }),
    /** @param {string} name @returns {Table<any>} */
    table: name => openTable(db, name),
    /**
     * Stores what the function sets, and the events that it sends with the transaction, together or not at all.
     *
     * @param {(transaction: any) => void} run
     */
    transact(run) {
      db.exec('BEGIN IMMEDIATE')
      try {
        run(db)
        db.exec('COMMIT')
      } catch (error) {
        if (db.isTransaction ?? db.inTransaction) db.exec('ROLLBACK')
        throw error
      }
    },
    close: () => db.close(),
  }
}

const WITHOUT_SQLITE = `Node ${process.version} has no SQLite: what happens here is kept in memory, and a restart loses it.
Use Node 22.13 or newer, or install better-sqlite3 12.`

function inMemory() {
  const store = memoryRuns()
  /** @type {Map<string, Map<string, any>>} */
  const tables = new Map()
  return {
    // The default of a pool, which is in memory.
    log: () => undefined,
    runs: () => store,
    /** @param {string} name @returns {Table<any>} */
    table: name => {
      const table = tables.get(name) ?? new Map()
      tables.set(name, table)
      return table
    },
    /** @param {(transaction: any) => void} run */
    transact: run => run(undefined),
    close: () => {},
  }
}

/** Node has it since 22.13. An older one may have the package, which needs a compiler or a download. */
function findSqlite() {
  const builtIn = process.getBuiltinModule?.('node:sqlite')
  if (builtIn) return /** @type {any} */ (builtIn).DatabaseSync
  try {
    return createRequire(import.meta.url)('better-sqlite3')
  } catch {
    return undefined
  }
}

/** @returns {Table<any>} */
function openTable(db, name) {
  const table = `example_${name}`
  db.exec(`CREATE TABLE IF NOT EXISTS ${table} (key TEXT PRIMARY KEY, value TEXT NOT NULL)`)
  const select = db.prepare(`SELECT value FROM ${table} WHERE key = ?`)
  const selectAll = db.prepare(`SELECT value FROM ${table} ORDER BY rowid`)
  const upsert = db.prepare(
    `INSERT INTO ${table} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
  )
  const remove = db.prepare(`DELETE FROM ${table} WHERE key = ?`)
  return {
    get: key => parsed(select.get(key)),
    set: (key, value) => upsert.run(key, JSON.stringify(value)),
    delete: key => remove.run(key),
    values: () => selectAll.all().map(parsed),
  }
}

function parsed(row) {
  return row && JSON.parse(row.value)
}
