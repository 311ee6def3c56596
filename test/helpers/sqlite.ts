/** The SQLite of these tests: that of Node, or better-sqlite3 where Node has none. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SqliteDatabase } from 'koa-sse-pool/sqlite'
import { type Database, type Driver, findDriver } from '../../src/sqlite/driver.js'
import { loadBetterSqlite } from '../setup/needs.js'

export type { Database }

/** Whether this Node has SQLite; test/suites/sqlite-nodes.test.ts runs these tests on those that do. */
export const isBuiltIn = process.getBuiltinModule('node:sqlite') !== undefined

/** The option `driver` of the logs in these tests. Undefined is the default, which is that of Node. */
export const driver: (new (path: string) => SqliteDatabase) | undefined = isBuiltIn
  ? undefined
  : loadBetterSqlite()

/** A connection as an app opens one. */
export function openDatabase(path: string): Database {
  return new (findDriver(driver as Driver | undefined))(path)
}

/** Files for the logs of one file of tests. */
export class SqliteFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'koa-sse-pool-sqlite-'))
  #count = 0

  newFile(): string {
    return join(this.path, `${this.#count++}.db`)
  }

  remove(): void {
    rmSync(this.path, { recursive: true })
  }
}

/** Deletes a database as people do it, even while it is open. */
export function deleteDatabase(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true })
}
