/**
 * A reader reads the log at its own pace: an event stream, or a subscription (a long poll, an iteration
 * over `pool.events()`). It has no queue. It has a cursor, and this class is the only place that moves
 * it.
 *
 * The life of a reader: it is parked until the log has filled the window; it starts at the tail, or
 * further back, or resumes after the last entry that its client got; it reads the entries of its
 * targets; and if one was evicted before the reader got to it, it reads a gap and continues at the tail.
 */
import type { GapReason } from '../lib/reasons.js'
import { type LastPage, NO_PAGES, type Page, type Pages } from './pages.js'
import { Batch, type Member, type Slot, type Target } from './target.js'
import type { CursorState, Window } from './window.js'

/** What a reader without a cursor reads first: nothing, the newest of each key, or all that is kept. */
export type Replay = 'missed' | 'latest' | 'all'

/** The reader has missed something and continues at the tail, or begins a history of which it is the rest. */
export class Gap {
  readonly reason: GapReason
  /** The tail's id; undefined while the log is empty, and before a history. */
  readonly id: string | undefined
  readonly bytes = 0

  constructor(reason: GapReason, id: string | undefined) {
    this.reason = reason
    this.id = id
  }
}

/** Where a reader is, by ids, which stay valid when the window is refilled. */
export interface Place {
  readonly cursor: string | undefined
  readonly openedAt: string | undefined
  readonly joinedAt: readonly (readonly [Target, string | undefined])[]
  readonly leftAt: readonly (readonly [Target, string | undefined])[]
  readonly removal: Slot | undefined
  /** Whether entries that it would have read next are in the log no more. */
  readonly hasLost: boolean
}

export abstract class Reader implements CursorState, Member {
  /** The client's id, which `except` names; `''` for a reader without a client. */
  abstract readonly id: string
  /** The cursor that the client brought, `''` for none. Do not trust it. */
  readonly lastEventId: string

  #cursor = 0
  #targets: readonly Target[] = []
  #joinedAt: Map<Target, number> | undefined
  #leftAt: Map<Target, number> | undefined
  #openedAt = 0
  #liveAfter = 0
  #latestOnly = false
  /** Kept here because the entry may be evicted before a slow reader gets to it. */
  #removal: Slot | undefined
  #isParked = false
  #hasBegun = false
  #hasResumed = false
  #gap: GapReason | undefined
  /** What it reads in place of the window. */
  #pages: Pages | undefined

  constructor(lastEventId: string) {
    this.lastEventId = lastEventId
  }

  /** The target of its client, where a removal of the client would be. */
  abstract readonly clientTarget: Target | undefined
  /** Nothing is read or delivered any more. */
  abstract readonly isClosed: boolean
  /**
   * Whether it can be delivered to now. When an entry is about to leave the window, up to `allowance`
   * bytes may wait in its socket or buffer; otherwise the allowance is 0.
   */
  abstract canTake(allowance: number): boolean
  /** Delivers what {@link next} gave. */
  abstract take(next: Batch | Gap | Page | LastPage): void
  /** Where it continues has been decided, or the log has something new for it. */
  abstract wake(): void

  /** The position that the oldest direct send waits for; undefined where there is none. */
  get directAfter(): number | undefined {
    return undefined
  }

  /** Delivers the oldest direct send. Only streams have any. */
  takeDirect(): void {}

  /** It is not parked any more, and does not read before this call has returned. */
  protected unparked(): void {}

  /** The position up to which it has read. */
  get cursor(): number {
    return this.#cursor
  }

  get targets(): readonly Target[] {
    return this.#targets
  }

  get joinedAt(): ReadonlyMap<Target, number> | undefined {
    return this.#joinedAt
  }

  get leftAt(): ReadonlyMap<Target, number> | undefined {
    return this.#leftAt
  }

  get openedAt(): number {
    return this.#openedAt
  }

  get liveAfter(): number {
    return this.#liveAfter
  }

  get latestOnly(): boolean {
    return this.#latestOnly
  }

  /** Whether it waits for the log before it is decided where it continues. */
  get isParked(): boolean {
    return this.#isParked
  }

  /** Whether its client brought a cursor that the log knows. */
  get hasResumed(): boolean {
    return this.#hasResumed
  }

  /** Reads nothing until the log has filled the window, or has shown whether it knows the cursor. */
  park(): void {
    this.#isParked = true
  }

  /** Starts as a reader without a cursor. */
  start(window: Window, replay: Replay): void {
    this.#begin(window, replay === 'missed' ? window.tail : window.start)
    this.#openedAt = this.#liveAfter = window.tail
    this.#latestOnly = replay === 'latest'
  }

  /**
   * Prepares for {@link resumeAt}, or for {@link lose} if the log does not know the cursor. Unlike after
   * {@link start}, a removal of its client in the window is not history: it ends the reader.
   */
  startResuming(window: Window): void {
    this.#begin(window, window.tail)
    this.#openedAt = 0
    this.#latestOnly = false
  }

  /**
   * Continues after the entry at this position, the last one that its client got.
   *
   * @param liveAfter the tail: volatile entries up to there are not replayed.
   * @param openedAt the end of the history that the client was in the middle of; 0 for none.
   */
  resumeAt(position: number, liveAfter: number, openedAt = 0, latestOnly = false): void {
    this.#unpark()
    this.#hasResumed = true
    this.#liveAfter = liveAfter
    this.#openedAt = openedAt
    this.#latestOnly = latestOnly
    this.#moveTo(position)
  }

  /**
   * The reader has missed something: it reads a gap next.
   * @param removal among the missed entries; it ends the reader in place of the gap.
   * @param openedAt the end of the history that the client was in the middle of; 0 for none.
   */
  lose(reason: GapReason, removal?: Slot, openedAt = 0): void {
    this.#unpark()
    this.#gap = reason
    this.#dropRemoval(openedAt)
    this.#removal = removal ?? this.#removal
  }

  /** This entry ends the reader, even if it is evicted before the reader gets to it. */
  endWith(slot: Slot): void {
    this.#removal = slot
  }

  /** Forgets the removal that would end it, if its client has read past it: it ended an earlier visit. */
  forgetRemoval(hasPassed: (removal: Slot) => boolean): void {
    if (this.#removal !== undefined && hasPassed(this.#removal)) this.#removal = undefined
  }

  /** Reads these pages. Of what the window has for its targets, only a removal is for it. */
  readPages(pages: Pages): void {
    this.#pages = pages
  }

  get hasPages(): boolean {
    return this.#pages !== undefined
  }

  /** Reads no more pages: it is about to close, or has closed. */
  closePages(): void {
    if (this.#pages === undefined) return
    const pages = this.#pages
    this.#pages = NO_PAGES
    pages.close()
  }

  /** Reads these targets, from wherever it starts. Its client's own comes last. */
  follow(targets: readonly Target[]): void {
    this.#targets = targets
  }

  /** Reads these targets too, each from its tail on. */
  join(window: Window, joined: readonly Target[]): void {
    this.#noteLoss(window)
    if (!this.#isParked) this.#dropLeft()
    // A target that it has left and not read to the end is read on as if it had stayed.
    const targets = joined.filter(target => !this.#leftAt?.delete(target))
    this.#targets = this.#targets.toSpliced(-1, 0, ...targets)
    if (!this.#isParked && this.#cursor === window.tail) return
    // Otherwise older entries of the target would be replayed with those that are still unread.
    this.#joinedAt ??= new Map()
    for (const target of targets) this.#joinedAt.set(target, window.tail)
  }

  /** Stops reading this target, once it has read what was sent before. */
  leave(window: Window, left: Target): void {
    if (!this.#targets.includes(left)) return
    // Left a second time, it would also read what was sent in between.
    if (this.#leftAt?.has(left)) return
    this.#noteLoss(window)
    this.#leftAt ??= new Map()
    this.#leftAt.set(left, window.tail)
    if (!this.#isParked) this.#dropLeft()
  }

  /** Losses must have been noted: of a target that is dropped, they are no longer found. */
  #dropLeft(): void {
    for (const [left, position] of this.#leftAt ?? []) {
      const isRead = this.#cursor >= position || (left.last?.position ?? 0) <= this.#cursor
      if (!isRead) continue
      this.#targets = this.#targets.filter(target => target !== left)
      this.#leftAt?.delete(left)
    }
    if (this.#leftAt?.size === 0) this.#leftAt = undefined
  }

  /**
   * Reads on, up to a position, and moves the cursor beyond what it returns: a gap if something was
   * lost, else a batch, which may be empty (all of it superseded, or meant for others), or undefined
   * when there is nothing to read. A parked reader reads nothing.
   */
  next(window: Window, upTo: number): Batch | Gap | Page | LastPage | undefined {
    return this.#pages === undefined
      ? this.#nextInWindow(window, upTo)
      : (this.#removalIn(window) ?? this.#pages.next())
  }

  /** Skips what the window has for its targets, up to the removal of its client. */
  #removalIn(window: Window): Batch | undefined {
    for (;;) {
      const skipped = this.#nextInWindow(window, window.tail)
      if (skipped === undefined) return undefined
      if (skipped instanceof Gap || skipped.removal === undefined) continue
      return new Batch([], skipped.position, skipped.removal)
    }
  }

  #nextInWindow(window: Window, upTo: number): Batch | Gap | undefined {
    if (this.#isParked) return undefined
    const wantsAll = this.#isBeforeHistory && !this.#latestOnly
    this.#noteLoss(window)
    this.#hasBegun = true
    if (this.#gap !== undefined) return this.#readGap(this.#gap, window)
    // Without an id: a client that is cut off now must come back as a new one, or it would miss the history.
    if (wantsAll && window.hasLostBeginning(this)) return new Gap('trimmed', undefined)
    if (this.#cursor < upTo) {
      const batch = window.next(this, upTo)
      this.#cursor = batch?.position ?? upTo
      if (batch !== undefined) return batch
    }
    if (this.#joinedAt !== undefined && this.#cursor === window.tail) this.#joinedAt = undefined
    if (this.#leftAt !== undefined) this.#dropLeft()
    return undefined
  }

  /** Whether it has read everything, so that its client may get the tail's id as its cursor. */
  isAtTail(window: Window): boolean {
    return !this.#isParked && this.#gap === undefined && this.#cursor === window.tail
  }

  /** The id at its cursor; undefined while that is not decided, and while the log is empty. */
  cursorId(window: Window): string | undefined {
    if (this.#pages !== undefined) return this.#pages.cursor
    if (this.#isParked || this.#gap !== undefined) return undefined
    const id = window.idAt(this.#cursor)
    if (id === undefined || this.#cursor >= this.#openedAt) return id
    return id + window.suffixAt(this.#openedAt, this.#latestOnly)
  }

  /**
   * Where it is, to find its place again after the window is refilled.
   * @param lostFrom the position from which on the log has lost what is in this window; infinity if it has not.
   */
  placeIn(window: Window, lostFrom: number): Place {
    return {
      cursor: window.idAt(this.#cursor),
      openedAt: window.idAt(this.#openedAt),
      joinedAt: [...(this.#joinedAt ?? [])].map(([target, at]) => [target, window.idAt(at)]),
      leftAt: [...(this.#leftAt ?? [])].map(([target, at]) => [target, window.idAt(at)]),
      removal: this.#removal,
      hasLost: this.#targets.some(target => {
        const until = this.#leftAt?.get(target) ?? Number.POSITIVE_INFINITY
        const from = Math.max(this.#cursor, this.#joinedAt?.get(target) ?? 0)
        const newest = Math.min(target.last?.position ?? 0, until)
        return newest > from && newest >= lostFrom
      }),
    }
  }

  /** Finds its place in the refilled window; reads a gap for this reason if the place or what followed is gone. */
  moveToPlace(place: Place, window: Window, reason: GapReason): void {
    const find = (id: string | undefined) => (id === undefined ? undefined : window.find(id))
    if (this.#isBeforeHistory) {
      // It has read nothing of its history yet, so it gets the history that there is now.
      this.#cursor = window.start
      this.#openedAt = find(place.openedAt) ?? window.tail
      return
    }
    // A place that is not found is older than everything that is kept.
    this.#openedAt = find(place.openedAt) ?? 0
    for (const [target, id] of place.joinedAt) this.#joinedAt?.set(target, find(id) ?? 0)
    for (const [target, id] of place.leftAt) this.#leftAt?.set(target, find(id) ?? 0)
    const position = find(place.cursor)
    if (this.#isParked) {
      // Its cursor is still the tail when it came: removals from before are about an earlier visit.
      this.#cursor = position ?? (reason === 'replaced' ? window.tail : window.start)
      if (this.#dropRemoval(this.#cursor)) this.#removal = place.removal
      return
    }
    if (position !== undefined && !place.hasLost) {
      this.#moveTo(position)
      return
    }
    this.#gap = reason
    // A removal in another log, or from before the reader opened, is about an earlier client.
    const isForeign = reason === 'replaced' || (this.#removal?.position ?? 0) <= this.#openedAt
    if (isForeign) this.#removal = place.removal
  }

  #unpark(): void {
    if (!this.#isParked) return
    this.#isParked = false
    this.unparked()
  }

  #begin(window: Window, cursor: number): void {
    this.#unpark()
    this.#hasBegun = false
    this.#cursor = cursor
    // A removal that the log already held when the reader arrived is history.
    this.#removal = undefined
    // Channels that it joined before there was a tail.
    for (const target of this.#joinedAt?.keys() ?? []) this.#joinedAt?.set(target, window.tail)
  }

  /** Whether it has a history to read and has read nothing of it. A client that resumes has. */
  get #isBeforeHistory(): boolean {
    return !this.#hasBegun && !this.#hasResumed && this.#cursor < this.#openedAt
  }

  /** If an entry of its targets was evicted before the reader got to it, it reads a gap next. */
  #noteLoss(window: Window): void {
    if (this.#isParked || this.#gap !== undefined) return
    // History that was evicted before the reader first read was not promised, so it is not a loss.
    if (this.#isBeforeHistory) {
      this.#cursor = Math.max(this.#cursor, Math.min(window.start, this.#openedAt))
    }
    if (window.hasLost(this)) this.#gap = 'lagged'
  }

  #moveTo(position: number): void {
    this.#cursor = position
    // A removal before that place, or in its history, ended an earlier visit of the same client.
    this.#dropRemoval(Math.max(position, this.#openedAt))
  }

  /** Forgets a removal up to this position. Returns whether there was one. */
  #dropRemoval(upTo: number): boolean {
    if (this.#removal === undefined || this.#removal.position > upTo) return false
    this.#removal = undefined
    return true
  }

  #readGap(reason: GapReason, window: Window): Batch | Gap {
    this.#gap = undefined
    this.#joinedAt = undefined
    this.#cursor = window.tail
    // The gap also skips the removal, so honour it here or the client is never ended.
    return this.#removal !== undefined
      ? new Batch([], window.tail, this.#removal)
      : new Gap(reason, window.tailId)
  }
}
