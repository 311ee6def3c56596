/**
 * Follows what a pool does, for `koa-sse-pool/tracing`. Called in the middle of the pool's work, so it must not
 * throw, nor call the pool. A pool without one pays for a comparison.
 */
import type { CloseReason, GapReason } from '../lib/reasons.js'
import type { TargetAddress } from '../log/log.js'
import type { Stream } from '../stream/stream.js'

export interface Tracer {
  /** An entry is about to be stored. @param frame the encoded event. */
  sending(address: TargetAddress, frame: string): SendTrace
  /**
   * An entry that carries a trace has come from the log, and streams of this process are to get it.
   * @param position where it is in the window.
   */
  arrived(id: string, address: TargetAddress, streams: number, position: number): void
  /** A stream has joined the pool. @param resumes whether its client brought a cursor. */
  admitted(stream: Stream, resumes: boolean): void
  /** The response of a stream has opened. */
  opened(stream: Stream): void
  /** A stream continues from its cursor. @param entries from there to the tail of the log. */
  resumed(stream: Stream, entries: number): void
  /** A stream cannot continue from its cursor, and gets a gap. */
  lost(stream: Stream, reason: GapReason): void
  closed(stream: Stream, reason: CloseReason): void
}

/** One send. */
export interface SendTrace {
  /** What the entry carries to the processes that deliver it; undefined if nothing. */
  readonly traceparent: string | undefined
  /** Learns of the outcome. */
  follow(stored: Promise<string>): void
}
