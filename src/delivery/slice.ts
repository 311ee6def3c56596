/** Work in slices, so that what takes long leaves the event loop free for other requests. */

/** A slice ends after so many milliseconds. */
export const SLICE_MS = 10

export class Slice {
  readonly #until: number
  readonly #piecesPerLook: number
  #pieces = 0

  /** @param piecesPerLook The clock is read once for so many, as a look is dear beside a small one. */
  constructor(milliseconds: number, piecesPerLook = 16) {
    this.#until = performance.now() + milliseconds
    this.#piecesPerLook = piecesPerLook
  }

  /** To be asked after each piece of work. */
  isOver(): boolean {
    this.#pieces += 1
    return this.#pieces % this.#piecesPerLook === 0 && performance.now() >= this.#until
  }
}
