/** Why streams close, and why readers get a gap. */

/**
 * Why an event stream closed:
 *
 * - `client`: the client disconnected.
 * - `end`: the app called `end()`.
 * - `removed`: by `pool.remove(id)`, by `removeAll()` of a channel, or by `pool.removeWhere()`.
 * - `replaced`: a newer stream of the same client took its place (`maxStreamsPerClient`).
 * - `slow`: the client took nothing for `stallTimeout`, or direct sends passed `maxBufferedBytes`.
 * - `expired`: `authorize` returned something else than `true`, or `expiresAt` has passed.
 * - `rotated`: the app called `rotate()`, or `maxAge` was reached.
 * - `drain`: the pool is closing, or its HTTP server is.
 * - `error`: the handler failed.
 */
export type CloseReason =
  | 'client'
  | 'end'
  | 'removed'
  | 'replaced'
  | 'slow'
  | 'expired'
  | 'rotated'
  | 'drain'
  | 'error'

/**
 * Why a reader got a gap:
 *
 * - `trimmed`: its cursor belongs to this log, but is older than the window.
 * - `unknown`: its cursor does not belong to this log; or it has none and opened before the log had filled
 *   the window, so which of the entries there were sent since cannot be known.
 * - `replaced`: the engine now has a different log than before.
 * - `lagged`: it was so slow that an entry for it left the window before it was delivered.
 */
export type GapReason = 'trimmed' | 'unknown' | 'replaced' | 'lagged'
