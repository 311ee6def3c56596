/** Work in slices, so that long work leaves the event loop free for other requests. */

/** How long a slice takes, in milliseconds. */
export const SLICE_MS = 10

export class Slice {
  readonly #until: number
  readonly #checkEvery: number
  #pieces = 0

  /** @param checkEvery pieces of work between two looks at the clock, which is not free to read. */
  constructor(milliseconds: number, checkEvery = 16) {
    this.#until = performance.now() + milliseconds
    this.#checkEvery = checkEvery
  }

  /** Call it after each piece of work. */
  isOver(): boolean {
    this.#pieces += 1
    return this.#pieces % this.#checkEvery === 0 && performance.now() >= this.#until
  }
}
