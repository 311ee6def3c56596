/**
 * Sends of this process that have not arrived in its own window yet, which takes an engine a while. Two
 * things wait for the arrival: the send's promise, so that whatever the app does next comes after it, and
 * direct sends to the same readers, which must not overtake it.
 */
import type { Target } from './target.js'
import type { Window } from './window.js'

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

  constructor(window: Window) {
    this.#window = window
  }

  /**
   * Begins a send.
   *
   * @param target the name of the target whose members the entry concerns.
   * @param stored resolves to the entry's id once the log has it.
   * @returns the same id, once the entry has also arrived, or cannot arrive any more.
   */
  async begin(nonce: string, target: string, stored: Promise<string>): Promise<string> {
    const send = makeSend(nonce, target)
    this.#byNonce.set(nonce, send)
    const sends = this.#byTarget.get(target) ?? new Set()
    this.#byTarget.set(target, sends.add(send))
    try {
      const id = await stored
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
