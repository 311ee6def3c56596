/** The place of an entry in the log, read from its id without the code of the engines. */
import type { EngineName } from './messages.js'

export interface Place {
  /** Redis: the millisecond. NATS: when the stream was created. */
  readonly major: number
  readonly minor: number
}

export function placeOf(engine: EngineName, id: string): Place {
  const [first = '', second = ''] = id.split('-')
  const place =
    engine === 'redis'
      ? { major: Number(first), minor: Number(second) }
      : { major: Number.parseInt(second, 36), minor: Number.parseInt(first, 36) }
  if (Number.isNaN(place.major + place.minor)) throw new Error(`"${id}" is no id of ${engine}`)
  return place
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
