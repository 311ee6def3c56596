/** Repeatable chance, drawn from a seed by the generator of fast-check. */
import fc from 'fast-check'

const BLOCK = 256
const DRAW = fc.integer({ min: 0, max: 2 ** 30 - 1 })

export class Random {
  readonly #seed: number
  #blocks = 0
  #drawn: number[] = []

  constructor(seed: number) {
    this.#seed = seed
  }

  /** A number from 0 up to but not including 1. */
  next(): number {
    if (this.#drawn.length === 0) {
      const seed = Math.imul(this.#seed, 0x9e3779b1) + this.#blocks++
      this.#drawn = fc.sample(DRAW, { seed, numRuns: BLOCK, unbiased: true })
    }
    return (this.#drawn.pop() as number) / 2 ** 30
  }

  /** A whole number, both ends included. */
  whole(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.whole(0, items.length - 1)] as Item
  }

  /** Some of the items, in random order. */
  some<Item>(items: readonly Item[], count: number): Item[] {
    const left = [...items]
    const taken: Item[] = []
    while (taken.length < count && left.length > 0) {
      taken.push(...left.splice(this.whole(0, left.length - 1), 1))
    }
    return taken
  }
}
