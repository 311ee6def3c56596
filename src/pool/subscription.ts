/**
 * Reads a pool's entries without an event stream: for {@link ClientPool.events} and for long polling.
 * A tap has a cursor as a stream has, and so the same replay, gaps and order; but nothing is written
 * to it: it takes what waits when it is asked, and costs no memory in between.
 */

import type { Resumable } from '../delivery/resume.js'
import type { Slot, Target, Watcher } from '../delivery/target.js'
import type { Window } from '../delivery/window.js'
import { aBoolean, oneOf, optional, type Rule, resolve } from '../lib/rules.js'
import type { GapReason } from '../stream/stream.js'
import { decodeFrame, END_ID } from '../wire/event.js'

/** An event as a page would see it. */
export interface PoolEntry {
  /** Its id in the log; what to go on from. Undefined only for a gap in a log that is empty. */
  id: string | undefined
  /** The event name; `'message'` for one without. */
  event: string
  /** Its data as text; JSON, if it was sent as anything but a string. */
  data: string
  /** Milliseconds, if it was sent with any. */
  retry?: number
}

/** Whose entries to read. */
export interface EventTargets {
  /** A client's id. */
  id?: string | number | undefined
  channels?: readonly string[] | undefined
  /** Broadcasts too. Default `true`. */
  everyone?: boolean | undefined
}

export interface EventsOptions {
  /** The id of the last entry that was read, to go on after it. Default: from now on. */
  since?: string | undefined
  /** What comes first without `since`; as the option of {@link sse}. Default `'missed'`: nothing. */
  replay?: 'missed' | 'latest' | 'all' | undefined
  /** Ends the iteration when it aborts. */
  signal?: AbortSignal | undefined
}

const TARGET_RULES: Record<keyof EventTargets, Rule> = {
  // Checked as everywhere, when it is made a string.
  id: optional('a client id', () => true),
  // A string would be taken letter by letter.
  channels: { default: [], expected: 'an array of channel names', accepts: Array.isArray },
  everyone: aBoolean(true),
}

const EVENTS_RULES: Record<keyof EventsOptions, Rule> = {
  since: {
    default: '',
    expected: 'the id of an entry',
    accepts: value => typeof value === 'string',
  },
  replay: oneOf('missed', 'latest', 'all'),
  signal: optional('an AbortSignal', value => value instanceof AbortSignal),
}

/** @throws TypeError for a wrong one, before there is a reader that nobody would close. */
export function checkEvents(targets: EventTargets, options: EventsOptions) {
  resolve('events()', TARGET_RULES, targets)
  return resolve('events()', EVENTS_RULES, options) as unknown as SettledEventsOptions
}

interface SettledEventsOptions {
  readonly since: string
  readonly replay: 'missed' | 'latest' | 'all'
  readonly signal: AbortSignal | undefined
}

export interface TapOptions {
  readonly window: Window
  /** The client's id, or `''`. */
  readonly id: string
  readonly targets: readonly Target[]
  readonly clientTarget: Target | undefined
  readonly since: string
  readonly onGap: () => void
  readonly onClose: () => void
}

export class Tap implements Watcher, Resumable {
  readonly id: string
  readonly lastEventId: string
  readonly targets: readonly Target[]
  readonly clientTarget: Target | undefined
  readonly joinedAt = undefined
  cursor = 0
  openedAt = 0
  latestOnly = false
  removal: Slot | undefined
  parked = false
  gap: GapReason | undefined
  hasCursor = false
  readonly #window: Window
  readonly #onGap: () => void
  readonly #onClose: () => void
  #isClosed = false
  #news: (() => void) | undefined

  constructor({ window, id, targets, clientTarget, since, onGap, onClose }: TapOptions) {
    this.#window = window
    this.#onGap = onGap
    this.#onClose = onClose
    this.id = id
    this.targets = targets
    this.clientTarget = clientTarget
    this.lastEventId = since
    // Also keeps them from being forgotten, with what they know of evicted entries.
    for (const target of targets) target.watch(this)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Where to go on; undefined while that is not decided, and while the log is empty. */
  get cursorId(): string | undefined {
    const isDecided = !this.parked && this.gap === undefined
    return isDecided ? this.#window.idAt(this.cursor) : undefined
  }

  goOnAt(position: number): void {
    this.cursor = position
    if (this.removal !== undefined && this.removal.position <= position) this.removal = undefined
  }

  /** What waits now, oldest first; nothing while it is not decided where to go on. */
  take(): PoolEntry[] {
    const window = this.#window
    if (this.parked || this.#isClosed) return []
    if (window.hasLost(this)) this.gap ??= 'lagged'
    if (this.gap !== undefined) return [this.#takeGap(this.gap)]
    while (this.cursor < window.tail) {
      const batch = window.next(this, window.tail)
      this.cursor = batch?.position ?? window.tail
      const entries = (batch?.slots ?? []).map(entryOf)
      if (batch?.removal !== undefined) entries.push(this.#end(batch.removal))
      if (entries.length > 0) return entries
    }
    return []
  }

  /** Resolves when something waits, or it is closed. */
  async wait(): Promise<void> {
    await new Promise<void>(resolve => {
      this.#news = resolve
      if (this.#isClosed) resolve()
    })
  }

  wake(): void {
    this.#news?.()
    this.#news = undefined
  }

  /** Forgets it; what waits is not taken any more. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#onClose()
    for (const target of this.targets) {
      target.unwatch(this)
      this.#window.release(target)
    }
    this.wake()
  }

  /** The client was removed: what its pages get, and then nothing any more. */
  #end({ frame }: Slot): PoolEntry {
    this.close()
    return { ...decodeFrame(frame), id: END_ID, event: 'close' }
  }

  #takeGap(reason: GapReason): PoolEntry {
    this.gap = undefined
    this.cursor = this.#window.tail
    // Skipped over with the rest, it must not be slept through.
    if (this.removal !== undefined) return this.#end(this.removal)
    this.#onGap()
    return { id: this.#window.tailId, event: 'sse.gap', data: JSON.stringify({ reason }) }
  }
}

/**
 * Reads until the client is removed, the tap is closed, or the signal aborts. From the call on nothing
 * is missed, and not only from the first look at it.
 */
export function readAll(tap: Tap, signal: AbortSignal | undefined): AsyncGenerator<PoolEntry> {
  const stop = () => {
    signal?.removeEventListener('abort', stop)
    tap.close()
  }
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  const entries = read(tap, signal, stop)
  const leave = entries.return.bind(entries)
  // One that was never read, or that waits, would not come to its `finally`.
  entries.return = value => {
    stop()
    return leave(value)
  }
  return entries
}

async function* read(
  tap: Tap,
  signal: AbortSignal | undefined,
  stop: () => void,
): AsyncGenerator<PoolEntry> {
  try {
    for (;;) {
      const entries = tap.take()
      // Not `yield*`, which waits even for nothing: news in between would be lost.
      for (const entry of entries) {
        if (signal?.aborted) return
        yield entry
      }
      if (tap.isClosed) return
      if (entries.length === 0) await tap.wait()
    }
  } finally {
    stop()
  }
}

function entryOf({ id, frame }: Slot): PoolEntry {
  return { id, ...decodeFrame(frame) }
}
