/** The pool's figures. */
import type { CloseReason, GapReason } from '../lib/reasons.js'
import type { TransportName } from '../stream/transport/transport.js'
import type { StreamState } from './survey.js'

/**
 * Why a request got no stream:
 *
 * - `full`: `maxClients` was reached.
 * - `draining`: the pool is closing.
 * - `duplicate`: the client has `maxStreamsPerClient` streams, and `onDuplicate` is `'reject'`.
 * - `connection`: the connection carries `maxStreamsPerConnection` streams.
 * - `address`: its address has `maxStreamsPerAddress` streams.
 * - `rate`: its address opened streams faster than `connectRate`.
 * - `origin`: `allowedOrigins` does not allow the page's origin.
 * - `type`: the request does not accept `text/event-stream`.
 * - `expired`: the time that `identify` gave as `expiresAt` had passed.
 * - `id`: the client's id or a channel name was wrong, or there were more than 100 channels.
 * - `store`: the store of its run was out of reach.
 */
export type Refusal =
  | 'full'
  | 'draining'
  | 'duplicate'
  | 'connection'
  | 'address'
  | 'rate'
  | 'origin'
  | 'type'
  | 'expired'
  | 'id'
  | 'store'

/**
 * Why a send or a removal failed: `down` if the log did not store it, `uncertain` if that cannot be known,
 * `closed` if the pool is closed, `other` for anything else.
 */
export type SendFailure = 'down' | 'uncertain' | 'closed' | 'other'

/** Figures of this process: current ones, and counts since the pool was created. */
export interface PoolStats {
  /** Client ids that are connected now. */
  clients: number
  /** Streams in the pool now. */
  streams: number
  /**
   * Streams now, by how they are carried (`http1`, `http2`, `lean`) and by what they are doing: `opening` while
   * the handler has not opened the response, `live`, `blocked` by a full socket, `parked` until the log says
   * where they continue.
   */
  transports: Record<TransportName, Record<StreamState, number>>
  /**
   * How many entries of the log open streams are behind now, counted from the oldest that waits for them: the
   * slowest of all, and the slowest but for the last hundredth.
   */
  lag: {
    /** Of the slowest stream. */
    max: number
    /** Of the 99th percentile. */
    p99: number
  }
  /** Streams that keep only their socket now; see the option `lean`. */
  lean: number
  /** Readers without a stream now: long polls, and iterations over `pool.events()`. */
  polls: number
  /** Channels with at least one stream now. */
  channels: number
  /** Streams that are behind now: their client is slow, or a burst is not delivered yet. */
  lagging: number
  /** Requests that wait now for a later turn of the event loop, because many came at once. */
  waiting: number
  /** Streams that wait now for the log to say where they continue. */
  parked: number
  /** Streams that have joined the pool. */
  opened: number
  /** Streams that have closed, by reason. */
  closed: Record<CloseReason, number>
  /** Requests that got no stream, by reason. */
  refused: Record<Refusal, number>
  /** Events that came from the log, sent by any process. */
  entries: number
  /** Events delivered to streams: one that goes to three streams counts three times. */
  deliveries: number
  /** Bytes of these deliveries, without headers and chunk framing. */
  bytes: number
  /** How often a stream, a poll or an iteration continued from its cursor without a gap. */
  replays: number
  /** How often one of these had missed something. */
  gaps: number
  /** The same, by reason. */
  gapsByReason: Record<GapReason, number>
  /** Sends and removals of this process that failed, by reason. */
  failed: Record<SendFailure, number>
  /** Entries that were skipped because something else wrote them into the engine, in a wrong form. */
  foreign: number
  /** What the window holds now: events, and their bytes. */
  window: {
    /** Events that can be replayed now. */
    events: number
    /** Bytes that these take, of at most the option `window.bytes`. */
    bytes: number
  }
  /** Whether the log is in reach now. */
  log: 'up' | 'down'
}

/** The figures that are only counted up. */
export class Counts {
  opened = 0
  replays = 0
  readonly gapsByReason: Record<GapReason, number> = {
    trimmed: 0,
    unknown: 0,
    replaced: 0,
    lagged: 0,
  }
  readonly failed: Record<SendFailure, number> = { down: 0, uncertain: 0, closed: 0, other: 0 }
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
    connection: 0,
    address: 0,
    rate: 0,
    origin: 0,
    type: 0,
    expired: 0,
    id: 0,
    store: 0,
  }

  /** A copy, because the figures keep growing. */
  snapshot() {
    const { opened, replays, gapsByReason, failed, closed, refused } = this
    const { trimmed, unknown, replaced, lagged } = gapsByReason
    return {
      opened,
      replays,
      gaps: trimmed + unknown + replaced + lagged,
      gapsByReason: { ...gapsByReason },
      failed: { ...failed },
      closed: { ...closed },
      refused: { ...refused },
    }
  }
}
