/**
 * What a stream tells its page: the only messages between a connection and the pages that read it, be they
 * in this tab or, through a BroadcastChannel, in another one.
 */
export type News = Start | Arrival | Link

/** The stream continues after the entry `at`; `''` while nobody knows an id. */
interface Start {
  readonly kind: 'start'
  readonly at: string
}

/** An event of the stream, heartbeats and gaps included. */
export interface Arrival {
  readonly kind: 'event'
  readonly type: string
  readonly data: string
  /** Its own id. Undefined for an event without an id line, such as one that `ctx.sse.send` sent. */
  readonly id: string | undefined
}

/** The state of the connection has changed. */
interface Link {
  readonly kind: 'link'
  readonly state: LinkState
}

/** `replaying`: connected again, and what was missed is still arriving. */
export type LinkState = 'connecting' | 'replaying' | 'live' | 'offline' | 'ended' | 'refused'

export const GAP = 'sse.gap'
export const HEARTBEAT = 'sse.cursor'

/** The id of the event that ends a stream for good. */
export const END_ID = 'sse.end'
