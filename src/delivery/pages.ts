/**
 * What a reader reads instead of the pool's events, when its route has a log of its own: a run. The reader
 * stays a member of its pool, with heartbeats, limits and removals.
 */
import type { GapReason } from '../lib/reasons.js'
import type { Chunk } from '../wire/event.js'

/** One reader's way through a log of its own. */
export interface Pages {
  /** Where it is, as the id to come back with. */
  readonly cursor: string
  /** Moves on. Undefined while there is nothing more: the reader is woken when there is. */
  next(): Page | LastPage | undefined
  /** The reader has closed. Called once. */
  close(): void
}

/** Consecutive events, which readers at the same place share as one write. */
export abstract class Page {
  /** The bytes of its frames, ids included. */
  abstract readonly bytes: number
  /** The number of events. */
  abstract readonly count: number
  /** Set if it tells the reader that it has missed something. */
  abstract readonly gap: GapReason | undefined
  abstract readonly chunk: Chunk
  /** Its events, for readers that are not streams, each with its id. */
  abstract events(): readonly { readonly id: string; readonly frame: string }[]
}

/** The log has ended: the reader closes. */
export class LastPage {
  /** The data lines of the close event. */
  readonly data: string
  readonly bytes = 0

  constructor(data: string) {
    this.data = data
  }
}

/** What a reader has once it reads no more. */
export const NO_PAGES: Pages = { cursor: '', next: () => undefined, close: () => {} }
