/** Why streams close, and why readers get a gap. */

/** Why an event stream closed. */
export type CloseReason =
  /** The client disconnected. */
  | 'client'
  /** The app called `end()`. */
  | 'end'
  /** The client was removed: `pool.remove(id)`. */
  | 'removed'
  /** A newer stream of the same client took its place (`maxStreamsPerClient`). */
  | 'replaced'
  /** The client read nothing for `stallTimeout`, or direct sends passed `maxBufferedBytes`. */
  | 'slow'
  /** `authorize` returned false. */
  | 'expired'
  /** `maxAge` was reached. */
  | 'rotated'
  /** The pool is closing, or its HTTP server is. */
  | 'drain'
  /** The handler failed after the response had opened. */
  | 'error'

/** Why a reader got a gap. */
export type GapReason =
  /** The cursor belongs to this log, but is older than the window. */
  | 'trimmed'
  /** The cursor does not belong to this log. */
  | 'unknown'
  /** The engine now has a different log than before. */
  | 'replaced'
  /** The reader was so slow that an entry meant for it left the window before it was delivered. */
  | 'lagged'
