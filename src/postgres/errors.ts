/** Turns errors of PostgreSQL and of `pg` into the package's own, with the likely fix. */
import type { SseError } from '../lib/errors.js'
import { engineError } from '../log/errors.js'

const NO_TABLE = 'create it by `await log.createTable()`, or run the SQL of createTableSql()'

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const FIXES: Record<string, string> = {
  '25006': 'this server is a standby; connect to the primary',
  '28000': 'correct the user, or allow it in pg_hba.conf',
  '28P01': 'correct the password of the pool',
  '3D000': 'correct the database of the pool',
  '3F000': 'create the schema first',
  '42501': 'grant this user SELECT, INSERT and DELETE on the tables, as in docs/postgres.md',
  '42703': NO_TABLE,
  '42883': NO_TABLE,
  '42P01': NO_TABLE,
  '53100': 'the disk of the server is full',
  '53300': 'raise max_connections, or let fewer processes connect',
  '57P03': 'PostgreSQL is starting or stopping; it will be available soon',
}

const NO_RUNS_TABLE =
  'create them by `await store.createTable()`, or run the SQL of createRunsTableSql()'

const RUNS_FIXES: Record<string, string> = {
  ...FIXES,
  '42501':
    'grant this user SELECT, INSERT, UPDATE and DELETE on the tables, as in docs/postgres.md',
  '42703': NO_RUNS_TABLE,
  '42883': NO_RUNS_TABLE,
  '42P01': NO_RUNS_TABLE,
  XX001: 'rows of the tables were deleted by hand, or lost',
}

/**
 * Whether PostgreSQL itself refused the statement, so that nothing was stored. After a fatal error, such as
 * the end of the session, that is not certain: the commit may have come before it.
 */
export function isErrorReply(error: unknown): boolean {
  return error instanceof Error && 'severity' in error && error.severity === 'ERROR'
}

/** Whether one bad entry made the statement fail, so that the rest of its batch can be stored without it. */
export function isBadEntry(error: unknown): boolean {
  return isErrorReply(error) && /^(22|23|54)/.test(errorKind(error))
}

/** Whether PostgreSQL has rolled a statement back for the sake of another one: a deadlock, or a conflict. */
export function isRepeatable(error: unknown): boolean {
  return isErrorReply(error) && /^40(001|P01)$/.test(errorKind(error))
}

/** The SQLSTATE of a reply, or the code of a socket error. */
export function errorKind(error: unknown): string {
  if (!(error instanceof Error)) return ''
  return 'code' in error && error.code !== undefined ? String(error.code) : error.message
}

export function downError(what: string, cause: unknown): SseError {
  return engineError('ERR_SSE_LOG_DOWN', `postgresLog(): ${what}`, cause, FIXES[errorKind(cause)])
}

export function uncertainError(cause: unknown): SseError {
  const what = 'postgresLog(): the entry may or may not be stored'
  return engineError('ERR_SSE_LOG_UNCERTAIN', what, cause)
}

export function runsDownError(what: string, cause: unknown): SseError {
  return engineError(
    'ERR_SSE_LOG_DOWN',
    `postgresRuns(): ${what}`,
    cause,
    RUNS_FIXES[errorKind(cause)],
  )
}

export function runsUncertainError(what: string, cause: unknown): SseError {
  return engineError('ERR_SSE_LOG_UNCERTAIN', `postgresRuns(): ${what}`, cause)
}
