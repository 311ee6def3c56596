/**
 * Moves cursors: live delivery, replay, catching up and bursts are all {@link Pump.advance}.
 *
 * A target with new entries waits in a lane until its members have been visited. The work is done
 * in slices, so that a broadcast to many streams leaves the event loop free for other requests.
 */

import type { EventStream, GapReason } from '../stream/stream.js'
import { Chunk } from '../wire/event.js'
import { SLICE_MS, Slice } from './slice.js'
import type { Target } from './target.js'
import type { Window } from './window.js'

/** Up to so many members a target is small, and small ones need not wait behind large ones. */
const SMALL = 64

/** After so many bytes for one stream the others have their turn. */
const VISIT_BYTES = 1024 * 1024

export interface PumpCounts {
  deliveries: number
  bytes: number
}

export interface PumpOptions {
  readonly window: Window
  /** Bytes that may wait in a socket when entries are about to leave the window. */
  readonly allowance: number
  /** A stream was told of a gap, or would have been if it resumed. */
  readonly onGap: (stream: EventStream, reason: GapReason) => void
}

export class Pump {
  readonly counts: PumpCounts = { deliveries: 0, bytes: 0 }
  readonly #options: PumpOptions
  readonly #window: Window
  readonly #small = new Lane()
  readonly #large = new Lane()
  /** Streams that could take more, but have had their share of this slice. */
  readonly #hungry = new Set<EventStream>()
  /** All up to this position has been offered to everyone whom it is for. */
  #offered = 0
  #scheduled = false
  #flushing = false

  constructor(options: PumpOptions) {
    this.#options = options
    this.#window = options.window
  }

  /** Streams that have had their share and wait for the next slice. */
  get hungry(): number {
    return this.#hungry.size
  }

  /** Its members have something new to get, after what the current tick has still to send. */
  schedule(target: Target): void {
    if (target.size === 0) return
    const lane = target.size <= SMALL ? this.#small : this.#large
    lane.add(target)
    this.#wake()
  }

  /** Delivers everything at once, in slices no longer: this target's oldest entry leaves the window. */
  flushIfPending(target: Target): void {
    // A listener that sends in mid-flush must not start another; the window is right to evict then.
    if (this.#flushing) return
    // What came after the last flush needs none yet: one for each send would make a write of each.
    const isOffered = (target.first?.position ?? 0) <= this.#offered
    const isPending = !isOffered && (this.#small.has(target) || this.#large.has(target))
    // Those who only had their share may still be waiting for older entries.
    if (!isPending && this.#hungry.size === 0) return
    this.#flushing = true
    try {
      this.#work(Number.POSITIVE_INFINITY, this.#options.allowance)
    } finally {
      this.#flushing = false
    }
  }

  forget(stream: EventStream): void {
    this.#hungry.delete(stream)
  }

  /**
   * Moves one stream's cursor towards the tail: a gap if it has missed something, then entries and
   * direct sends in the order in which the app sent them, until all is out or its socket is full.
   */
  advance(stream: EventStream, allowance = 0): void {
    const window = this.#window
    let budget = VISIT_BYTES
    while (stream.canTake(allowance)) {
      if (!stream.parked && window.hasLost(stream)) stream.gap ??= 'lagged'
      if (stream.gap !== undefined) {
        this.#tellGap(stream)
        continue
      }
      const { directAfter } = stream
      const upTo = Math.min(directAfter ?? window.tail, window.tail)
      const mayRead = !stream.parked && stream.cursor < upTo
      const batch = mayRead ? window.next(stream, upTo) : undefined
      if (batch === undefined) {
        if (mayRead) stream.cursor = upTo
        // Not of a parked one, whose cursor is none yet: it may go on from before it joined.
        if (stream.joinedAt !== undefined && !stream.parked && stream.cursor === window.tail) {
          stream.joinedAt = undefined
        }
        if (directAfter === undefined) break
        stream.writeDirect()
        continue
      }
      if (batch.slots.length > 0) {
        stream.write(batch.chunk(stream.withIds))
        stream.fresh = true
        stream.hasCursor ||= stream.withIds
        this.counts.deliveries += batch.slots.length
        this.counts.bytes += batch.bytes
      }
      stream.cursor = batch.position
      if (batch.removal) stream.finish('removed', batch.removal.frame, batch.position)
      budget -= batch.bytes
      if (budget <= 0) {
        this.#hungry.add(stream)
        this.#wake()
        return
      }
    }
    this.#hungry.delete(stream)
  }

  #tellGap(stream: EventStream): void {
    const { gap: reason, removal } = stream
    stream.gap = undefined
    stream.joinedAt = undefined
    stream.cursor = this.#window.tail
    // Skipped over with the rest, it must not be slept through.
    if (removal !== undefined) {
      stream.finish('removed', removal.frame, stream.cursor)
      return
    }
    if (stream.resumes) {
      const { tailId } = this.#window
      const id = tailId === undefined || !stream.withIds ? '' : `id: ${tailId}\n`
      stream.write(new Chunk(`event: sse.gap\n${id}data: ${JSON.stringify({ reason })}\n\n`))
      stream.hasCursor ||= id !== ''
    }
    // Last, as a listener that sends comes back here.
    this.#options.onGap(stream, reason as GapReason)
  }

  #wake(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#work(SLICE_MS, 0)
      if (!this.#isIdle) this.#wake()
    })
  }

  #work(milliseconds: number, allowance: number): void {
    const visit = (stream: EventStream) => this.advance(stream, allowance)
    // Half of the slice at most, so that a flood of targeted sends does not starve a broadcast.
    this.#small.serve(visit, milliseconds / 2)
    this.#large.serve(visit, milliseconds / 2)
    const slice = new Slice(milliseconds / 2, 1)
    // Who is hungry again is added again, and so comes up once more in this very loop.
    for (const stream of this.#hungry) {
      this.#hungry.delete(stream)
      visit(stream)
      if (slice.isOver()) break
    }
    if (this.#isIdle) this.#offered = this.#window.tail
  }

  get #isIdle(): boolean {
    return this.#small.isEmpty && this.#large.isEmpty && this.#hungry.size === 0
  }
}

/** Targets that wait to be served, first come first served. */
class Lane {
  readonly #queue = new Set<Target>()
  /** The target that the last slice did not finish, and how far it got. */
  #current: { target: Target; members: Iterator<unknown> } | undefined

  get isEmpty(): boolean {
    return this.#queue.size === 0 && this.#current === undefined
  }

  has(target: Target): boolean {
    return this.#queue.has(target) || this.#current?.target === target
  }

  /** One that is being served is queued again: those at its beginning have been visited already. */
  add(target: Target): void {
    this.#queue.add(target)
  }

  serve(visit: (stream: EventStream) => void, milliseconds: number): void {
    const slice = new Slice(milliseconds)
    for (;;) {
      const current = this.#current ?? this.#take()
      if (current === undefined) return
      // A Set's iterator stays right while members leave and join, so it can rest between slices.
      for (let step = current.members.next(); !step.done; step = current.members.next()) {
        visit(step.value as EventStream)
        if (slice.isOver()) return
      }
      this.#current = undefined
    }
  }

  #take() {
    for (const target of this.#queue) {
      this.#queue.delete(target)
      this.#current = { target, members: target.members() }
      return this.#current
    }
    return undefined
  }
}
