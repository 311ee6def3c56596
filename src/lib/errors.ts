import type { CloseReason } from './reasons.js'

/**
 * What can go wrong, by code:
 *
 * - `ERR_SSE_CLOSED`: the event stream has closed; `reason` says why. It is the reason of
 *   `stream.signal`, and never thrown by `send`.
 * - `ERR_SSE_POOL_CLOSED`: the pool was closed before this call, or during a claim.
 * - `ERR_SSE_EVENT_TOO_LARGE`: the frame is larger than `maxEventBytes`.
 * - `ERR_SSE_LOG_DOWN`: the log's engine is out of reach; the event was not stored.
 * - `ERR_SSE_LOG_UNCERTAIN`: the engine was lost during the call; the event may have been stored.
 * - `ERR_SSE_RUN_EXISTS`: `runs.start` with `onDuplicate: 'reject'`, and there is a run of this id; Koa answers
 *   409.
 * - `ERR_SSE_RUN_ENDED`: the run has ended, or was lost, so nothing can be appended.
 * - `ERR_SSE_RUN_EXPIRED`: the run has expired; Koa answers 410.
 * - `ERR_SSE_RUN_UNKNOWN`: there is no run of this id; Koa answers 404.
 */
export type SseErrorCode =
  | 'ERR_SSE_CLOSED'
  | 'ERR_SSE_POOL_CLOSED'
  | 'ERR_SSE_EVENT_TOO_LARGE'
  | 'ERR_SSE_LOG_DOWN'
  | 'ERR_SSE_LOG_UNCERTAIN'
  | 'ERR_SSE_RUN_EXISTS'
  | 'ERR_SSE_RUN_ENDED'
  | 'ERR_SSE_RUN_EXPIRED'
  | 'ERR_SSE_RUN_UNKNOWN'

/** An operational failure. Misuse (a wrong option, a bad event) is a `TypeError` instead. */
export class SseError extends Error {
  /** `'SseError'`, or `'AbortError'` if it is the reason of `stream.signal`. */
  override readonly name: string = 'SseError'
  /** What went wrong. */
  readonly code: SseErrorCode
  /** Why the stream closed; only on `ERR_SSE_CLOSED`. */
  readonly reason: CloseReason | undefined
  /**
   * Sends the same entry again; resolves and rejects like the send itself. The entry is stored once,
   * whether or not the first attempt stored it. Only on `ERR_SSE_LOG_UNCERTAIN` of a pool's send.
   */
  retry: (() => Promise<string>) | undefined
  /** The status that Koa answers with if a handler does not catch the error. Default: none, so 500. */
  readonly status: number | undefined
  /** Whether Koa shows the message to the client: if there is a `status`. */
  readonly expose: boolean

  /** @param options `reason` is for `ERR_SSE_CLOSED`; `status` for Koa; `cause` is that of every `Error`. */
  constructor(
    code: SseErrorCode,
    message: string,
    options?: { cause?: unknown; reason?: CloseReason | undefined; status?: number | undefined },
  ) {
    super(message, options)
    this.code = code
    this.reason = options?.reason
    this.status = options?.status
    this.expose = options?.status !== undefined
  }
}

/** Describes a value that was given, short enough for an error message. */
export function got(value: unknown): string {
  if (typeof value === 'string') {
    return value.length > 40 ? `a string of ${value.length} characters` : JSON.stringify(value)
  }
  if (Array.isArray(value)) return 'an array'
  if (value === null || typeof value === 'undefined') return String(value)
  if (typeof value === 'object') return describe(value)
  if (typeof value === 'function') return 'a function'
  return `${String(value)} (${typeof value})`
}

/** With its kind, as in `a Map`, because a Promise or a Map in the wrong place is a common mistake. */
function describe(value: object): string {
  const kind = Object.prototype.toString.call(value).slice(8, -1)
  if (kind === 'Object') return 'an object'
  return `${/^[AEIOU]/.test(kind) ? 'an' : 'a'} ${kind}`
}

/** What other packages call these, too far from the name here to be found by spelling. */
const HABITS = new Map([
  ['keepAlive', 'pingInterval'],
  ['keepAliveInterval', 'pingInterval'],
  ['heartbeatInterval', 'pingInterval'],
  ['maxConnections', 'maxClients'],
  ['redis', 'log'],
  ['cors', 'allowedOrigins'],
  ['origins', 'allowedOrigins'],
  ['connection', 'open'],
  ['connect', 'open'],
  ['disconnect', 'close'],
])

/** The end of an error message: the known name nearest to a misspelt one, or all known names. */
export function didYouMean(name: string, known: readonly string[]): string {
  const habit = HABITS.get(name)
  if (habit !== undefined && known.includes(habit)) return `; did you mean "${habit}"?`
  const nearest = known
    .map(candidate => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance)[0]
  return nearest !== undefined && nearest.distance <= Math.ceil(name.length / 3)
    ? `; did you mean "${nearest.candidate}"?`
    : `; known are ${known.join(', ')}`
}

/** Levenshtein distance, ignoring case. */
function editDistance(a: string, b: string): number {
  const [from, to] = [a.toLowerCase(), b.toLowerCase()]
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replace = (row[j - 1] as number) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replace, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[to.length] as number
}
