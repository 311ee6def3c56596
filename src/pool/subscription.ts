/**
 * Reads a pool's entries without an event stream: for {@link ClientPool.events} and for long polling. A
 * subscription is a reader like a stream, so it has the same replay, gaps and order. It takes entries
 * only when it is read, and costs no memory in between.
 */

import { LastPage, Page } from '../delivery/pages.js'
import type { Pump } from '../delivery/pump.js'
import { Gap, Reader, type Replay } from '../delivery/reader.js'
import type { Batch, Slot, Target } from '../delivery/target.js'
import type { Window } from '../delivery/window.js'
import type { GapReason } from '../lib/reasons.js'
import { aBoolean, oneOf, optional, type Rule, resolve } from '../lib/rules.js'
import { decodeFrame } from '../wire/event.js'
import { END_ID, GAP_EVENT, gapData, NO_DATA } from '../wire/frames.js'

/** An event as a page would receive it. */
export interface PoolEntry {
  /**
   * Its id in the log: pass it as `since` to continue after this entry. `'sse.end'` for the `close` event
   * of a removed client; undefined only for a gap in an empty log, or before what `replay: 'all'` still has.
   */
  id: string | undefined
  /** The event name; `'message'` for an event without one, `'sse.gap'` for a gap. */
  event: string
  /** Its data as text: what was sent if that was a string, otherwise its JSON. */
  data: string
  /** The reconnect delay in milliseconds, if it was sent with one. */
  retry?: number | undefined
}

/** Whose entries to read. */
export interface EventTargets {
  /** The id of a client. Default: no client. */
  id?: string | number | undefined
  /** Channels by name. Default: none. */
  channels?: readonly string[] | undefined
  /** Whether broadcasts are included. Default `true`. */
  everyone?: boolean | undefined
}

/** Where to begin, and when to end. */
export interface EventsOptions {
  /** The id of the last entry that was read, to continue after it. Default: from now on. */
  since?: string | undefined
  /**
   * What comes first if there is no `since`: `'missed'` (default) nothing, `'latest'` the newest entry of
   * each key and the newest without one, `'all'` everything that the window holds.
   */
  replay?: Replay | undefined
  /** Ends the iteration when it aborts. Default: none. */
  signal?: AbortSignal | undefined
}

const TARGET_RULES: Record<keyof EventTargets, Rule> = {
  // Checked where it is turned into a string.
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

interface ResolvedEventsOptions {
  readonly since: string
  readonly replay: Replay
  readonly signal: AbortSignal | undefined
}

/** @throws TypeError for a wrong option, before there is a subscription that would have to be closed. */
export function checkEvents(targets: EventTargets, options: EventsOptions): ResolvedEventsOptions {
  resolve('events()', TARGET_RULES, targets)
  return resolve('events()', EVENTS_RULES, options) as unknown as ResolvedEventsOptions
}

/** What a subscription needs of its pool: the hub. */
export interface SubscriptionHost {
  readonly window: Window
  readonly pump: Pump
  /** A subscription has missed something. */
  subscriptionMissed(reason: GapReason): void
  /** A subscription is closed; called once. */
  subscriptionClosed(subscription: Subscription): void
}

export class Subscription extends Reader {
  readonly id: string
  readonly clientTarget: Target | undefined
  readonly #closeEvent: string
  readonly #host: SubscriptionHost
  #isClosed = false
  /** What it was given and has not returned yet. */
  #ready: PoolEntry[] = []
  #readyBytes = 0
  #isReading = false
  /** Its caller has waited for news and has not read since. */
  #isWaiting = false
  #wake: (() => void) | undefined

  /**
   * @param id the client's, `''` for none.
   * @param lastEventId of the entry to continue after, `''` for none.
   */
  constructor(
    id: string,
    clientTarget: Target | undefined,
    lastEventId: string,
    closeEvent: string,
    host: SubscriptionHost,
  ) {
    super(lastEventId)
    this.id = id
    this.clientTarget = clientTarget
    this.#closeEvent = closeEvent
    this.#host = host
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** The id to continue from; undefined while that is not decided, and while the log is empty. */
  get position(): string | undefined {
    return this.cursorId(this.#host.window)
  }

  /** What there is to read now, oldest first; nothing while it is not decided where to continue. */
  read(): PoolEntry[] {
    this.#isWaiting = false
    if (this.#ready.length === 0) {
      this.#isReading = true
      this.#host.pump.advance(this)
      this.#isReading = false
    }
    const ready = this.#ready
    this.#ready = []
    this.#readyBytes = 0
    return ready
  }

  /** Resolves when there may be something to read, and when it is closed. */
  async news(): Promise<void> {
    if (this.#isClosed) return
    this.#isWaiting = true
    await new Promise<void>(resolve => {
      this.#wake = resolve
    })
  }

  /** Takes nothing more from the log. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#host.subscriptionClosed(this)
    this.wake()
  }

  /**
   * Takes one batch at a time. While its caller waits for news, and so can only read after this turn, it
   * keeps more, up to the allowance, as a socket would.
   */
  canTake(allowance: number): boolean {
    if (this.#isClosed) return false
    if (this.#isReading) return this.#ready.length === 0
    return this.#isWaiting && (this.#ready.length === 0 || this.#readyBytes < allowance)
  }

  take(next: Batch | Gap | Page | LastPage): void {
    if (next instanceof LastPage) {
      this.end(next.data)
    } else if (next instanceof Page) {
      for (const { id, frame } of next.events()) this.#ready.push({ id, ...decodeFrame(frame) })
      this.#readyBytes += next.bytes
      if (next.gap !== undefined) this.#host.subscriptionMissed(next.gap)
    } else if (next instanceof Gap) {
      this.#ready.push({ id: next.id, event: GAP_EVENT, data: gapData(next.reason) })
      this.#host.subscriptionMissed(next.reason)
    } else {
      for (const slot of next.slots) {
        this.#ready.push({ id: next.idOf(slot), ...decodeFrame(slot.frame) })
      }
      this.#readyBytes += next.bytes
      if (next.removal !== undefined && this.#isClient) this.end(next.removal.frame)
    }
    if (this.#ready.length > 0) this.#notify()
  }

  override endWith(slot: Slot): void {
    if (this.#isClient) super.endWith(slot)
  }

  override lose(reason: GapReason, removal?: Slot, openedAt?: number): void {
    super.lose(reason, this.#isClient ? removal : undefined, openedAt)
  }

  /** An iteration without a client's id is the app's own, and no member that could be removed. */
  get #isClient(): boolean {
    return this.clientTarget !== undefined
  }

  wake(): void {
    this.#host.pump.advance(this)
    this.#notify()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  /**
   * The client was removed or replaced: its last entry is the close event that pages get too.
   * @param frame the data lines of the close event.
   */
  end(frame = NO_DATA): void {
    this.#ready.push({ ...decodeFrame(frame), id: END_ID, event: this.#closeEvent })
    this.close()
  }
}

/**
 * Reads until the client is removed, the subscription is closed, or the signal aborts. Nothing is missed
 * after the call, even if the iteration starts later.
 */
export function iterate(
  subscription: Subscription,
  signal: AbortSignal | undefined,
): AsyncGenerator<PoolEntry> {
  const stop = () => {
    signal?.removeEventListener('abort', stop)
    subscription.close()
  }
  signal?.addEventListener('abort', stop)
  if (signal?.aborted) stop()
  const entries = entriesOf(subscription, signal, stop)
  const leave = entries.return.bind(entries)
  // A generator that was never read, or is waiting, would not reach its `finally`.
  entries.return = value => {
    stop()
    return leave(value)
  }
  return entries
}

async function* entriesOf(
  subscription: Subscription,
  signal: AbortSignal | undefined,
  stop: () => void,
): AsyncGenerator<PoolEntry> {
  try {
    for (;;) {
      const entries = subscription.read()
      // Not `yield*`, which takes a turn even for an empty array: news in that turn would be lost.
      for (const entry of entries) {
        if (signal?.aborted) return
        yield entry
      }
      if (subscription.isClosed) return
      if (entries.length === 0) await subscription.news()
    }
  } finally {
    stop()
  }
}
