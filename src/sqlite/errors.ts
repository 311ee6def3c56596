/** Turns errors of SQLite into the package's own, with the likely fix. */
import type { SseError } from '../lib/errors.js'
import { engineError, messageOf } from '../log/errors.js'

/** The primary result codes that have a fix or a meaning here: https://www.sqlite.org/rescode.html */
const NAMES: Record<number, string> = {
  1: 'SQLITE_ERROR',
  5: 'SQLITE_BUSY',
  6: 'SQLITE_LOCKED',
  8: 'SQLITE_READONLY',
  10: 'SQLITE_IOERR',
  11: 'SQLITE_CORRUPT',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  26: 'SQLITE_NOTADB',
}

const FIXES: Record<string, string> = {
  SQLITE_BUSY:
    'another connection holds the write lock for longer than the option timeout; end the transactions of your app sooner',
  SQLITE_READONLY: 'let this process write to the file of the option path, and to its folder',
  SQLITE_IOERR: 'the disk cannot be read or written',
  SQLITE_CORRUPT: 'the file of the option path is damaged; restore it, or delete it',
  SQLITE_FULL: 'the disk is full',
  SQLITE_CANTOPEN:
    'the folder of the option path must exist, and this process must be able to write to it',
  SQLITE_NOTADB: 'the file of the option path is no SQLite database; choose another path',
}

/** What SQLite says of a table with other columns. */
const OTHER_TABLE = /no such column|has no column named|no such table/

/** The primary result code by name, or what else tells this error from others. */
export function errorKind(error: unknown): string {
  if (!(error instanceof Error)) return ''
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  // node:sqlite has a number, whose lowest byte is the primary code; better-sqlite3 has the extended code's name.
  if (typeof errcode === 'number') return NAMES[errcode & 0xff] ?? `SQLITE ${errcode & 0xff}`
  if (typeof code === 'string' && code.startsWith('SQLITE_')) {
    return Object.values(NAMES).find(name => code.startsWith(name)) ?? code
  }
  // better-sqlite3 looks for the folder itself.
  if (/directory does not exist/.test(error.message)) return 'SQLITE_CANTOPEN'
  return error.message
}

export function isBusy(error: unknown): boolean {
  const kind = errorKind(error)
  return kind === 'SQLITE_BUSY' || kind === 'SQLITE_LOCKED'
}

/** What an error message begins with. */
export type Where = 'sqliteLog()' | 'sqliteRuns()'

export function downError(what: string, cause: unknown, where: Where = 'sqliteLog()'): SseError {
  return engineError('ERR_SSE_LOG_DOWN', `${where}: ${what}`, cause, fixOf(cause))
}

export function uncertainError(
  what: string,
  cause: unknown,
  where: Where = 'sqliteLog()',
): SseError {
  return engineError('ERR_SSE_LOG_UNCERTAIN', `${where}: ${what}`, cause)
}

/** An insert has failed in a transaction of the app, which was rolled back. */
export function transactionError(cause: unknown): SseError {
  const what = 'not stored, and the transaction was rolled back'
  if (!isBusy(cause)) return downError(what, cause)
  const fix =
    'begin it by BEGIN IMMEDIATE; after BEGIN, SQLite gives the write lock only if it is free'
  return engineError('ERR_SSE_LOG_DOWN', `sqliteLog(): ${what}`, cause, fix)
}

function fixOf(cause: unknown): string | undefined {
  if (OTHER_TABLE.test(messageOf(cause))) {
    return 'the table of the option table is not one of this log, or was dropped; choose another name'
  }
  return FIXES[errorKind(cause)]
}
