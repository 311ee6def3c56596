/** The long polls that wait for their answer: each takes a place, as a stream does. */
import type { Subscription } from './subscription.js'

export class Polls {
  #size = 0
  readonly #byId = new Map<string, Set<Subscription>>()

  get size(): number {
    return this.#size
  }

  /** Those of a client, oldest first. */
  of(id: string): ReadonlySet<Subscription> {
    return this.#byId.get(id) ?? NONE
  }

  add(poll: Subscription): void {
    const own = this.#byId.get(poll.id)
    if (own === undefined) this.#byId.set(poll.id, new Set([poll]))
    else own.add(poll)
    this.#size += 1
  }

  /** Does nothing for a subscription that is no poll. */
  delete(poll: Subscription): void {
    const own = this.#byId.get(poll.id)
    if (!own?.delete(poll)) return
    if (own.size === 0) this.#byId.delete(poll.id)
    this.#size -= 1
  }
}

const NONE: ReadonlySet<Subscription> = new Set()
