/**
 * Delivers entries. Live events, replay, catching up and bursts are the same thing, {@link Pump.advance}:
 * it moves one reader towards the tail, as far as the reader takes what it reads.
 *
 * A target with new entries waits in a lane until its members have been visited. The work is done in
 * slices, so that a broadcast to many streams leaves the event loop free for other requests.
 */
import type { Reader } from './reader.js'
import { SLICE_MS, Slice } from './slice.js'
import type { Member, Target } from './target.js'
import type { Window, WindowListener } from './window.js'

/** A target with more members is large. Small targets do not wait behind large ones. */
const SMALL = 64

/** Readers that get the same: the members of a target, or the readers of a run. */
export interface Audience {
  readonly size: number
  /** The iterator stays valid while members come and go. */
  members(): Iterator<Member>
}

/** After this many bytes for one reader, the others get their turn. */
const VISIT_BYTES = 1024 * 1024

/** Without slices a reader gets one batch, which has the endangered entry, as it is the oldest of all. */
const ONE_BATCH = 1

export class Pump implements WindowListener {
  readonly #window: Window
  readonly #allowance: number
  readonly #small = new Lane()
  readonly #large = new Lane()
  /** Readers that could take more, but have had their share of this slice, or have left a target. */
  readonly #hungry = new Set<Reader>()
  /** Subscribers of targets that have new entries. */
  readonly #subscribers = new Set<Reader>()
  #offered = 0
  #isScheduled = false
  #isFlushing = false

  /** @param allowance bytes that may wait in a socket when entries are about to leave the window. */
  constructor(window: Window, allowance: number) {
    this.#window = window
    this.#allowance = allowance
    window.listener = this
  }

  /** How many readers wait for the next slice on their own, and not as members of a target. */
  get hungry(): number {
    return this.#hungry.size
  }

  /** Every entry up to this position has been offered to every reader that it is meant for. */
  get offered(): number {
    return this.#offered
  }

  /** Visits the target's readers after the current tick, which may send more. */
  appended(target: Target): void {
    if (!target.isRead) return
    if (target.size > 0) this.visit(target)
    for (const subscriber of target.subscribers()) this.#subscribers.add(subscriber as Reader)
    this.#wake()
  }

  /** Visits all of these readers after the current tick. */
  visit(audience: Audience): void {
    const lane = audience.size <= SMALL ? this.#small : this.#large
    lane.add(audience)
    this.#wake()
  }

  /** Visits this reader after the current tick, or as soon as what it still has to read is about to be evicted. */
  visitReader(reader: Reader): void {
    this.#hungry.add(reader)
    this.#wake()
  }

  /** This target's oldest entry is about to leave the window: delivers it now, without slices. */
  evicting(target: Target): void {
    // A listener that sends during a flush must not start another one; the window then has to evict.
    if (this.#isFlushing) return
    const position = target.first?.position ?? 0
    // Entries newer than the last flush can wait; flushing on every send would cost one write each.
    const isPending =
      position > this.#offered && (this.#small.has(target) || this.#large.has(target))
    this.#isFlushing = true
    try {
      if (isPending) this.#serveLanes(Number.POSITIVE_INFINITY, this.#allowance, ONE_BATCH)
      this.#serveEndangered(this.#hungry, target, position)
      this.#serveEndangered(this.#subscribers, target, position)
    } finally {
      this.#isFlushing = false
    }
  }

  forget(reader: Reader): void {
    this.#hungry.delete(reader)
    this.#subscribers.delete(reader)
  }

  /**
   * Delivers to one reader until it has everything or takes no more: a gap if it has missed something,
   * then entries and direct sends in the order in which the app sent them.
   *
   * @param allowance bytes that may wait in its socket.
   * @param share bytes after which it has to wait for its next turn.
   */
  advance(reader: Reader, allowance = 0, share = VISIT_BYTES): void {
    const window = this.#window
    let budget = share
    while (reader.canTake(allowance)) {
      const { directAfter } = reader
      const upTo = directAfter === undefined ? window.tail : Math.min(directAfter, window.tail)
      const next = reader.next(window, upTo)
      if (next === undefined) {
        if (directAfter === undefined || directAfter > window.tail) break
        reader.takeDirect()
        continue
      }
      reader.take(next)
      budget -= next.bytes
      if (budget <= 0) {
        this.visitReader(reader)
        return
      }
    }
    this.#hungry.delete(reader)
  }

  #wake(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#work(SLICE_MS, 0)
      if (!this.#isIdle) this.#wake()
    })
  }

  #work(milliseconds: number, allowance: number): void {
    this.#serveLanes(milliseconds, allowance)
    const slice = new Slice(milliseconds / 2, 1)
    for (const readers of [this.#hungry, this.#subscribers]) {
      // A reader that is still hungry is added to the set again, so this loop visits it once more.
      for (const reader of readers) {
        readers.delete(reader)
        this.advance(reader, allowance)
        if (slice.isOver()) return
      }
    }
  }

  #serveLanes(milliseconds: number, allowance: number, share?: number): void {
    const visit = (member: Member) => this.advance(member as Reader, allowance, share)
    // Half of the slice at most, so that a flood of targeted sends does not starve a broadcast.
    this.#small.serve(visit, milliseconds / 2)
    this.#large.serve(visit, milliseconds / 2)
    if (this.#small.isEmpty && this.#large.isEmpty) this.#offered = this.#window.tail
  }

  /** Of readers that wait for the next slice, only those that would lose this entry are served now. */
  #serveEndangered(readers: Set<Reader>, target: Target, position: number): void {
    for (const reader of readers) {
      if (reader.cursor >= position || !reader.targets.includes(target)) continue
      readers.delete(reader)
      this.advance(reader, this.#allowance, ONE_BATCH)
    }
  }

  get #isIdle(): boolean {
    const areLanesEmpty = this.#small.isEmpty && this.#large.isEmpty
    return areLanesEmpty && this.#hungry.size === 0 && this.#subscribers.size === 0
  }
}

/** Audiences that wait to be served, first come first served. */
class Lane {
  readonly #queue = new Set<Audience>()
  /** The audience that the last slice did not finish, and how far it got. */
  #current: { audience: Audience; members: Iterator<Member> } | undefined

  get isEmpty(): boolean {
    return this.#queue.size === 0 && this.#current === undefined
  }

  has(audience: Audience): boolean {
    return this.#queue.has(audience) || this.#current?.audience === audience
  }

  /** An audience being served is queued again because its first members have already been visited. */
  add(audience: Audience): void {
    this.#queue.add(audience)
  }

  serve(visit: (member: Member) => void, milliseconds: number): void {
    const slice = new Slice(milliseconds)
    for (;;) {
      const current = this.#current ?? this.#take()
      if (current === undefined) return
      // A Set's iterator stays valid while members leave and join, so it can rest between slices.
      for (let step = current.members.next(); !step.done; step = current.members.next()) {
        visit(step.value)
        if (slice.isOver()) return
      }
      this.#current = undefined
    }
  }

  #take() {
    for (const audience of this.#queue) {
      this.#queue.delete(audience)
      this.#current = { audience, members: audience.members() }
      return this.#current
    }
    return undefined
  }
}
