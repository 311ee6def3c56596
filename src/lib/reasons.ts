/** Why an event stream closed, and why a reader was told of a gap. */

/** Why an event stream closed. */
export type CloseReason =
  /** The client left. */
  | 'client'
  /** The app called `end()`. */
  | 'end'
  /** `pool.remove(id)`. */
  | 'removed'
  /** A newer stream of the same client took its place (`maxStreamsPerClient`). */
  | 'replaced'
  /** The client took nothing for `stallTimeout`, or direct sends passed `maxBufferedBytes`. */
  | 'slow'
  /** `authorize` returned false. */
  | 'expired'
  /** `maxAge` was reached. */
  | 'rotated'
  /** The pool is closing, or its HTTP server is. */
  | 'drain'
  /** The handler failed after the response had opened. */
  | 'error'

/** Why a reader was told of a gap. */
export type GapReason =
  /** The cursor is an id of this log, but older than the window. */
  | 'trimmed'
  /** The cursor is not an id of this log. */
  | 'unknown'
  /** The engine now has a different log than before. */
  | 'replaced'
  /** The reader was so slow that an entry meant for it left the window before it was delivered. */
  | 'lagged'
