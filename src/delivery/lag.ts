/**
 * How far readers are behind the tail. It is computed when someone asks, so that it costs an entry on its way
 * to a socket nothing.
 */

import type { Target } from './target.js'
import type { CursorState, Window } from './window.js'

export class Lags {
  readonly #tail: number
  /** The positions of each target's entries, oldest first. */
  readonly #positions = new Map<Target, readonly number[]>()

  constructor(window: Pick<Window, 'tail'>) {
    this.#tail = window.tail
  }

  /** How many entries of the log there are from the oldest that waits for the reader to the tail; 0 for none. */
  of(reader: CursorState): number {
    // Most have read everything, and each look at a target is a cache miss.
    if (reader.cursor === this.#tail) return 0
    let oldest = Number.POSITIVE_INFINITY
    for (const target of reader.targets) {
      const from = Math.max(reader.cursor, reader.joinedAt?.get(target) ?? 0)
      // The cursor of a reader for whom nothing was sent stays where it is, and is not behind.
      if (target.last === undefined || target.last.position <= from) continue
      const first = this.#firstAfter(target, from)
      const leftAt = reader.leftAt?.get(target) ?? Number.POSITIVE_INFINITY
      if (first <= leftAt) oldest = Math.min(oldest, first)
    }
    return Math.max(0, this.#tail - oldest + 1)
  }

  /** By binary search: ten thousand slow readers that each walk along ten thousand entries block the loop. */
  #firstAfter(target: Target, position: number): number {
    const positions = this.#positionsOf(target)
    let low = 0
    let high = positions.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((positions[middle] as number) <= position) low = middle + 1
      else high = middle
    }
    return positions[low] ?? Number.POSITIVE_INFINITY
  }

  #positionsOf(target: Target): readonly number[] {
    const known = this.#positions.get(target)
    if (known !== undefined) return known
    const positions: number[] = []
    for (let slot = target.first; slot !== undefined; slot = slot.next)
      positions.push(slot.position)
    this.#positions.set(target, positions)
    return positions
  }
}
