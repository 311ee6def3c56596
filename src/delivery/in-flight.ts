/**
 * Sends of this process that have not arrived in its own window yet, which takes an engine a while. (The
 * memory log puts an entry there at once and has no part in this.) Two things wait for the arrival: the
 * send's promise, so that whatever the app does next comes after it, and direct sends to the same readers,
 * which must not overtake it.
 */
import { SseError } from '../lib/errors.js'
import type { Entry, EventLog } from '../log/log.js'
import { Latency } from './latency.js'
import type { Target } from './target.js'
import type { Window } from './window.js'

/** How many sends may wait for the log's answer at once, and how many bytes they may hold. */
const MAX_WAITING = 20_000
const MAX_WAITING_BYTES = 32 * 1024 * 1024

/** How long a send waits for an entry that the log has stored, while the log cannot be read. */
const ARRIVAL_TIMEOUT_MS = 5000

/** A direct send that waits for sends in flight. */
export interface Waiter {
  /** One of the sends has arrived at this position; 0 when it never will. */
  settled(position: number): void
}

interface Send {
  readonly nonce: string
  readonly targets: readonly string[]
  readonly waiters: Waiter[]
  /** Assigned by the log once it has stored the entry. */
  id: string | undefined
  isSettled: boolean
  readonly arrival: Promise<void>
  settle: () => void
}

export class InFlight {
  readonly #window: Window
  readonly #byNonce = new Map<string, Send>()
  readonly #byTarget = new Map<string, Set<Send>>()
  /** Sends that the log has stored, in the order of its replies. */
  readonly #stored = new Set<Send>()
  /** What the log has not answered yet. */
  readonly #waiting = { sends: 0, bytes: 0 }
  /** From the send until the log has stored the entry, and until it has come back to this process. */
  readonly latency = { append: new Latency(), read: new Latency() }
  #timer: NodeJS.Timeout | undefined
  #begun = 0

  constructor(window: Window) {
    this.#window = window
  }

  /** How many sends were begun. Two direct sends with none in between wait for the same sends. */
  get begun(): number {
    return this.#begun
  }

  /**
   * Appends an entry to the log.
   *
   * @param targets the names of the targets whose members the entry concerns.
   * @returns the entry's id, once the log has stored it and it has also arrived, or cannot any more.
   * Rejects at once with `ERR_SSE_LOG_DOWN` when too many sends wait for a log that does not answer.
   */
  async append(
    entry: Omit<Entry, 'id'>,
    targets: readonly string[],
    log: Pick<EventLog, 'append'>,
  ): Promise<string> {
    const bytes = Buffer.byteLength(entry.frame)
    this.#checkRoom(bytes)
    const send = makeSend(entry.nonce, targets)
    this.#begun += 1
    this.#byNonce.set(entry.nonce, send)
    for (const target of targets) {
      const sends = this.#byTarget.get(target) ?? new Set()
      this.#byTarget.set(target, sends.add(send))
    }
    this.#waiting.sends += 1
    this.#waiting.bytes += bytes
    const start = performance.now()
    try {
      send.id = await log.append(entry).finally(() => {
        this.#waiting.sends -= 1
        this.#waiting.bytes -= bytes
      })
      this.latency.append.since(start)
      if (!send.isSettled) this.#awaitArrival(send)
      await send.arrival
      this.latency.read.since(start)
      return send.id
    } finally {
      this.#settle(send, 0)
    }
  }

  /** Whether a send to one of these targets is in flight. */
  isAwaited(targets: readonly Pick<Target, 'name'>[]): boolean {
    return this.#byTarget.size > 0 && targets.some(({ name }) => this.#byTarget.has(name))
  }

  /** Tells the waiter of each send to these targets that settles; returns how many there are. */
  waitFor(targets: readonly Pick<Target, 'name'>[], waiter: Waiter): number {
    let count = 0
    for (const { name } of targets) {
      for (const send of this.#byTarget.get(name) ?? []) {
        send.waiters.push(waiter)
        count += 1
      }
    }
    return count
  }

  /**
   * The entry with this nonce is in the window. Not to be called while the window is being filled: a
   * waiter delivers, and no reader has found its place there yet.
   */
  arrived(nonce: string, position: number): void {
    const send = this.#byNonce.get(nonce)
    if (send !== undefined) this.#settle(send, position)
  }

  /** Settles sends whose entry the window has passed by: it was trimmed, or is a repetition. */
  settlePassed(): void {
    for (const send of this.#stored) {
      if (send.id !== undefined && this.#window.willReach(send.id)) return
      this.#settle(send, this.#window.tail)
    }
  }

  /** Nothing arrives any more. */
  close(): void {
    for (const sends of this.#byTarget.values()) for (const send of sends) this.#settle(send, 0)
  }

  #awaitArrival(send: Send): void {
    this.#stored.add(send)
    // An entry that is sent again may have arrived long ago.
    this.settlePassed()
    if (this.#stored.size > 0) this.#timer ??= this.#watch([...this.#stored])
  }

  /** One timer for all: sends that are still waiting when it fires, have waited long enough. */
  #watch(sends: readonly Send[]): NodeJS.Timeout {
    return setTimeout(() => {
      for (const send of sends) this.#settle(send, this.#window.tail)
      this.#timer = this.#stored.size > 0 ? this.#watch([...this.#stored]) : undefined
    }, ARRIVAL_TIMEOUT_MS).unref()
  }

  /** A log that hangs would otherwise collect sends until its timeout: hundreds of megabytes. */
  #checkRoom(bytes: number): void {
    const { sends, bytes: waiting } = this.#waiting
    if (sends === 0 || (sends < MAX_WAITING && waiting + bytes <= MAX_WAITING_BYTES)) return
    throw new SseError(
      'ERR_SSE_LOG_DOWN',
      `The event was not stored: ${sends} sends (${waiting} bytes) wait for the log to answer; await sends, or send fewer at once`,
    )
  }

  #settle(send: Send, position: number): void {
    if (send.isSettled) return
    send.isSettled = true
    this.#stored.delete(send)
    if (this.#byNonce.get(send.nonce) === send) this.#byNonce.delete(send.nonce)
    for (const target of send.targets) {
      const sends = this.#byTarget.get(target)
      sends?.delete(send)
      if (sends?.size === 0) this.#byTarget.delete(target)
    }
    send.settle()
    for (const waiter of send.waiters) waiter.settled(position)
  }
}

function makeSend(nonce: string, targets: readonly string[]): Send {
  let settle = () => {}
  const arrival = new Promise<void>(resolve => {
    settle = resolve
  })
  return { nonce, targets, waiters: [], id: undefined, isSettled: false, arrival, settle }
}
