/**
 * Appends `<name> 0`, `<name> 1` and so on, and tells its parent which are stored; with a `count`, it appends that
 * many and does nothing more: `node sqlite-process.mjs <path> <name> <folder of better-sqlite3> <count>`.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { sqliteLog } from 'koa-sse-pool/sqlite'

const [path, name, betterSqlite, count] = process.argv.slice(2) as [string, string, string, string]
const driver = process.getBuiltinModule('node:sqlite')
  ? undefined
  : createRequire(join(betterSqlite, 'package.json'))('better-sqlite3')
const log = sqliteLog({ path, driver, maxEntries: 1_000_000 })
await log.open({ reset() {}, append() {}, state() {}, error() {} })
for (let number = 0; number < Number(count); number++) {
  const frame = `${name} ${number}`
  await log.append({ nonce: `${name}_${number}`, target: '*', frame })
  process.send?.(frame)
}
