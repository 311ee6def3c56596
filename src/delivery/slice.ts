/** Work in slices, so that long work leaves the event loop free for other requests. */

/** How long a slice takes, in milliseconds. */
export const SLICE_MS = 10

export class Slice {
  readonly #until: number
  readonly #piecesPerLook: number
  #pieces = 0

  /** @param piecesPerLook the clock is read once for so many pieces, as reading it is not free. */
  constructor(milliseconds: number, piecesPerLook = 16) {
    this.#until = performance.now() + milliseconds
    this.#piecesPerLook = piecesPerLook
  }

  /** Ask after each piece of work. */
  isOver(): boolean {
    this.#pieces += 1
    return this.#pieces % this.#piecesPerLook === 0 && performance.now() >= this.#until
  }
}
