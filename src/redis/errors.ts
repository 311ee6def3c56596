/** Turns errors of Redis and its drivers into the package's own, with the likely fix. */
import type { SseError } from '../lib/errors.js'
import { engineError } from '../log/errors.js'

const FIXES: Record<string, string> = {
  BUSY: 'a script is blocking Redis; end it by SCRIPT KILL',
  LOADING: 'Redis is loading its data; it will be available soon',
  MASTERDOWN: 'this replica has lost its primary; connect to the primary',
  MISCONF: 'Redis cannot write to its disk; its log says why',
  MOVED: 'this node of the cluster does not hold the key; connect to the node that does',
  NOAUTH: 'give the client a password',
  NOPERM: 'allow this user XADD, XRANGE, XREVRANGE, XREAD, XINFO and, if used, WAIT on the key',
  OOM: 'Redis has reached maxmemory; raise it, or lower maxEntries',
  READONLY: 'this is a replica; connect to the primary',
  WRONGPASS: 'correct the password of the client',
  WRONGTYPE: 'the key holds something other than a stream; use a different key',
}

const RUNS_FIXES: Record<string, string> = {
  ...FIXES,
  EVICTED: 'Redis evicts keys when it is full; set maxmemory-policy to noeviction',
  NOPERM:
    'allow this user EVAL and EVALSHA on all keys and channels that begin with the key in braces',
  OOM: 'Redis has reached maxmemory; raise it, or let runs expire sooner',
  WRONGTYPE:
    'another program uses keys that begin with the same key in braces; use a different key',
}

/** Redis 5 and 6 put the error of a command into the middle of the script's. */
const IN_SCRIPT = /^ERR Error running script .*?: -?([A-Z]{3,}) /

/** Whether Redis itself replied with an error, so that nothing was stored. */
export function isErrorReply(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error.name === 'ReplyError') return true
  // node-redis sets no `name` on its error classes. Socket errors have a code, error replies do not.
  return !('code' in error) && /^[A-Z][A-Z0-9_]+ /.test(error.message)
}

/** The first word of an error reply, or the code of a socket error. */
export function errorKind(error: unknown): string {
  if (!(error instanceof Error)) return ''
  if (isErrorReply(error)) {
    return IN_SCRIPT.exec(error.message)?.[1] ?? (error.message.split(' ', 1)[0] as string)
  }
  return 'code' in error ? String(error.code) : error.message
}

/** Whether the driver refused the command because it was not connected, so nothing was sent. */
export function isUnsent(error: unknown): boolean {
  return (
    error instanceof Error &&
    (/^The client is (closed|offline)/.test(error.message) ||
      error.message.startsWith("Stream isn't writeable"))
  )
}

export function downError(what: string, cause: unknown): SseError {
  return engineError('ERR_SSE_LOG_DOWN', `redisLog(): ${what}`, cause, FIXES[errorKind(cause)])
}

export function uncertainError(cause: unknown): SseError {
  const what = 'redisLog(): the entry may or may not be stored'
  return engineError('ERR_SSE_LOG_UNCERTAIN', what, cause)
}

export function runsDownError(what: string, cause: unknown): SseError {
  return engineError(
    'ERR_SSE_LOG_DOWN',
    `redisRuns(): ${what}`,
    cause,
    RUNS_FIXES[errorKind(cause)],
  )
}

export function runsUncertainError(what: string, cause: unknown): SseError {
  return engineError('ERR_SSE_LOG_UNCERTAIN', `redisRuns(): ${what}`, cause)
}
