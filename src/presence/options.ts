/** The options of `new Presence()`, each with its default and its check. */
import { isWhole, MAX_DELAY, type Rule, resolve } from '../lib/rules.js'
import { hasHub } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'

/** Options of {@link Presence}. */
export interface PresenceOptions {
  /** Its log carries the presence, and its channels get the events, whatever the pool's own events are. */
  pool: Pick<ClientPool, 'claim'>
  /**
   * For how many milliseconds a client stays a member after its last stream has closed, so that a reload or a
   * lost connection does not show up as leaving and returning. Default 10,000.
   */
  grace?: number | undefined
  /**
   * For how many milliseconds a process may be silent before the others declare it dead and its members leave.
   * Each process appends four messages to the log in this time. At least 100. Default 20,000.
   */
  lease?: number | undefined
}

export interface ResolvedPresenceOptions {
  readonly pool: object
  readonly grace: number
  readonly lease: number
}

const RULES: Record<keyof PresenceOptions, Rule> = {
  pool: { default: undefined, expected: 'a ClientPool', accepts: hasHub },
  grace: {
    default: 10_000,
    expected: 'whole milliseconds, 0 or more',
    accepts: value => isWhole(value, 0, MAX_DELAY),
  },
  lease: {
    default: 20_000,
    expected: 'whole milliseconds of at least 100',
    accepts: value => isWhole(value, 100, MAX_DELAY),
  },
}

/** @throws TypeError that names the option, when one is unknown, missing or wrong. */
export function resolvePresence(given: PresenceOptions): ResolvedPresenceOptions {
  if (hasHub(given)) throw new TypeError('Presence: got a ClientPool; write new Presence({ pool })')
  return resolve('Presence', RULES, given) as unknown as ResolvedPresenceOptions
}
