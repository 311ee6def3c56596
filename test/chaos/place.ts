/** The place of an entry in the log, read from its id without the code of the engines. */
import type { EngineName } from './messages.js'

export interface Place {
  /** Redis: the millisecond. NATS: when the stream was created. A table: which of all tables it is, from 1. */
  readonly major: number
  readonly minor: number
}

export class Places {
  readonly #engine: EngineName
  /** The generations of a table are random: their order is that in which they were seen. */
  readonly #generations: string[] = []

  constructor(engine: EngineName) {
    this.#engine = engine
  }

  of(id: string): Place {
    const place = this.#read(id)
    if (Number.isNaN(place.major + place.minor)) {
      throw new Error(`"${id}" is no id of ${this.#engine}`)
    }
    return place
  }

  #read(id: string): Place {
    const [first = '', second = ''] = id.split('-')
    switch (this.#engine) {
      case 'redis':
        return { major: Number(first), minor: Number(second) }
      case 'nats':
        return { major: Number.parseInt(second, 36), minor: Number.parseInt(first, 36) }
      default:
        if (!this.#generations.includes(first)) this.#generations.push(first)
        return { major: this.#generations.indexOf(first) + 1, minor: Number(second) }
    }
  }
}

export function order(a: Place, b: Place): number {
  return a.major - b.major || a.minor - b.minor
}

/** How many items of a sorted list lie at or before a place. */
export function countUpTo(sorted: readonly { readonly place: Place }[], place: Place): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (order((sorted[middle] as { place: Place }).place, place) <= 0) low = middle + 1
    else high = middle
  }
  return low
}
