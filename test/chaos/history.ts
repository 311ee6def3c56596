/** What happened to the log, as far as the driver knows: what was sent, and what was lost. */
import type { Address } from './messages.js'
import type { Place } from './place.js'

export interface Send {
  readonly n: number
  /** The position among the sends to its target, from 1. */
  readonly s: number
  readonly to: Address
  readonly key: string | undefined
  readonly issuedAt: number
  state: 'pending' | 'acknowledged' | 'rejected' | 'uncertain'
  place: Place | undefined
  wasRetried: boolean
  hasArrived: boolean
}

/** A removal of acknowledged entries. */
export interface Loss {
  readonly beganAt: number
  endedAt: number
  /** Whether all earlier cursors are void, so that every client must get a gap. */
  readonly voidsCursors: boolean
}

export function describe({ n, to, state, place, key }: Send): string {
  const target = `${to.kind} ${to.name}${to.except === undefined ? '' : ` except ${to.except}`}`
  const at = place === undefined ? '' : ` at ${place.major}-${place.minor}`
  return `event ${n} to ${target}${key === undefined ? '' : ` (key ${key})`}, ${state}${at}`
}
