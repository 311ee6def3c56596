/** The pool's figures. */
import type { CloseReason } from '../lib/reasons.js'

/** Why a request got no stream. */
export type Refusal = 'full' | 'draining' | 'duplicate' | 'origin' | 'type' | 'id'

/** Figures of this process, since the pool was made unless said otherwise. */
export interface PoolStats {
  /** Connected now: client ids. */
  clients: number
  /** Open now. */
  streams: number
  /** Of these, those that keep nothing but their socket; see the option `lean`. */
  lean: number
  /** Readers without a stream now: long polls, and iterations over `pool.events()`. */
  polls: number
  /** With at least one member now. */
  channels: number
  /** Streams that are behind now because their reader is slow. */
  lagging: number
  /** Streams whose cursor waits for the log to be in reach. */
  parked: number
  /** Streams that joined the pool. */
  opened: number
  closed: Record<CloseReason, number>
  refused: Record<Refusal, number>
  /** Entries that came from the log. */
  entries: number
  /** Entries given to streams. */
  deliveries: number
  /** What these took, without headers and chunk framing. */
  bytes: number
  /** How often a stream, a poll or an iteration went on from its cursor without a gap. */
  replays: number
  /** How often one of these had missed something. */
  gaps: number
  /** Entries that were skipped, as something else has written them into the engine in a wrong form. */
  foreign: number
  /** What the window holds now. */
  window: { events: number; bytes: number }
  log: 'up' | 'down'
}

/** What is only counted up. */
export class Counts {
  opened = 0
  replays = 0
  gaps = 0
  readonly closed: Record<CloseReason, number> = {
    client: 0,
    end: 0,
    removed: 0,
    replaced: 0,
    slow: 0,
    expired: 0,
    rotated: 0,
    drain: 0,
    error: 0,
  }
  readonly refused: Record<Refusal, number> = {
    full: 0,
    draining: 0,
    duplicate: 0,
    origin: 0,
    type: 0,
    id: 0,
  }

  /** A copy of the figures, which go on growing. */
  snapshot() {
    const { opened, replays, gaps, closed, refused } = this
    return { opened, replays, gaps, closed: { ...closed }, refused: { ...refused } }
  }
}
