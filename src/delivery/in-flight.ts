/**
 * Sends of this process that have not arrived in its own window yet, which takes an engine a while. Two
 * things wait for the arrival: the send's promise, so that whatever the app does next comes after it, and
 * direct sends to the same readers, which must not overtake it.
 */
import { SseError } from '../lib/errors.js'
import type { Entry, EventLog } from '../log/log.js'
import type { Target } from './target.js'
import type { Window } from './window.js'

/** How many sends may wait for the log's answer at once, and how many bytes they may hold. */
const MAX_WAITING = 20_000
const MAX_WAITING_BYTES = 32 * 1024 * 1024

/** A direct send that waits for sends in flight. */
export interface Follower {
  /** One of the sends has arrived at this position, or will never arrive. */
  follow(position: number): void
}

interface Send {
  readonly nonce: string
  readonly target: string
  readonly followers: Follower[]
  /** Assigned by the log once it has stored the entry. */
  id: string | undefined
  isSettled: boolean
  readonly settled: Promise<void>
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

  constructor(window: Window) {
    this.#window = window
  }

  /**
   * Begins a send: appends the entry to the log.
   *
   * @param target the name of the target whose members the entry concerns.
   * @returns the entry's id, once the log has stored it and it has also arrived, or cannot any more.
   * Rejects at once with `ERR_SSE_LOG_DOWN` when too many sends wait for a log that does not answer.
   */
  async begin(
    entry: Omit<Entry, 'id'>,
    target: string,
    log: Pick<EventLog, 'append'>,
  ): Promise<string> {
    const bytes = Buffer.byteLength(entry.frame)
    this.#checkRoom(bytes)
    const send = makeSend(entry.nonce, target)
    this.#byNonce.set(entry.nonce, send)
    const sends = this.#byTarget.get(target) ?? new Set()
    this.#byTarget.set(target, sends.add(send))
    try {
      const id = await this.#append(entry, bytes, log)
      send.id = id
      if (!send.isSettled) this.#stored.add(send)
      // An entry that is sent again may have arrived long ago.
      this.settlePassed()
      await send.settled
      return id
    } finally {
      this.#settle(send, 0)
    }
  }

  async #append(
    entry: Omit<Entry, 'id'>,
    bytes: number,
    log: Pick<EventLog, 'append'>,
  ): Promise<string> {
    this.#waiting.sends += 1
    this.#waiting.bytes += bytes
    try {
      return await log.append(entry)
    } finally {
      this.#waiting.sends -= 1
      this.#waiting.bytes -= bytes
    }
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

  /** Makes a direct send to a reader of these targets follow all sends in flight; returns their number. */
  follow(targets: readonly Target[], follower: Follower): number {
    if (this.#byTarget.size === 0) return 0
    let count = 0
    for (const { name } of targets) {
      for (const send of this.#byTarget.get(name) ?? []) {
        send.followers.push(follower)
        count += 1
      }
    }
    return count
  }

  /** The entry with this nonce is in the window, at its tail. */
  arrived(nonce: string): void {
    const send = this.#byNonce.get(nonce)
    if (send !== undefined) this.#settle(send, this.#window.tail)
  }

  /** The window has advanced or was refilled: sends that it has passed will not arrive any more. */
  settlePassed(): void {
    for (const send of this.#stored) {
      if (send.id !== undefined && this.#window.willReach(send.id)) return
      this.#settle(send, this.#window.tail)
    }
  }

  /** Nothing will arrive any more. */
  close(): void {
    for (const send of this.#byNonce.values()) this.#settle(send, 0)
  }

  #settle(send: Send, position: number): void {
    if (send.isSettled) return
    send.isSettled = true
    this.#stored.delete(send)
    if (this.#byNonce.get(send.nonce) === send) this.#byNonce.delete(send.nonce)
    const sends = this.#byTarget.get(send.target)
    sends?.delete(send)
    if (sends?.size === 0) this.#byTarget.delete(send.target)
    send.settle()
    for (const follower of send.followers) follower.follow(position)
  }
}

function makeSend(nonce: string, target: string): Send {
  let settle = () => {}
  const settled = new Promise<void>(resolve => {
    settle = resolve
  })
  return { nonce, target, followers: [], id: undefined, isSettled: false, settled, settle }
}
