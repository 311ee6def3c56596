/**
 * Lets in only so many streams in one turn of the event loop. When thousands of clients reconnect within a
 * second, as after a deploy, the requests that have arrived together would otherwise hold up everything else
 * until the last of them is open.
 */

/** About ten milliseconds of work. */
export const STREAMS_PER_TURN = 50

export class Turns {
  #used = 0
  #waiting: (() => void)[] = []

  /** Requests that wait for their turn. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Undefined if the request may go on now; otherwise resolves when it is its turn, in the order of arrival. */
  take(): Promise<void> | undefined {
    if (this.#used === 0) setImmediate(() => this.#next())
    this.#used += 1
    if (this.#used <= STREAMS_PER_TURN) return undefined
    return new Promise(resolve => this.#waiting.push(resolve))
  }

  #next(): void {
    const next = this.#waiting.splice(0, STREAMS_PER_TURN)
    // Those that arrive meanwhile must not overtake the ones that still wait.
    this.#used = next.length + this.#waiting.length
    if (this.#used > 0) setImmediate(() => this.#next())
    for (const resolve of next) resolve()
  }
}
