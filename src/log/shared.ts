/** Parts that the engines share: health, nonces, sets of limited size, and hints for options. */
import { got } from '../lib/errors.js'
import type { LogSink } from './log.js'

/** Keeps error messages that contain a varying part from flooding the app's error listener. */
const MAX_REPORTED_ERRORS = 10

/**
 * Tracks whether an engine can be reached. An outage may last for hours, with a failed attempt every
 * few seconds, so this calls the sink once per change, and once per kind of error until the engine is
 * up again.
 */
export class Health {
  readonly #sink: Pick<LogSink, 'state' | 'error'>
  /** The state that the sink knows; sinks assume that the engine is up at first. */
  #isUp = true
  readonly #reportedKinds = new Set<string>()

  constructor(sink: Pick<LogSink, 'state' | 'error'>) {
    this.#sink = sink
  }

  /** @param kind A second error of the same kind is not reported. */
  report(kind: string, error: unknown): void {
    if (this.#reportedKinds.has(kind) || this.#reportedKinds.size >= MAX_REPORTED_ERRORS) return
    this.#reportedKinds.add(kind)
    this.#sink.error(error)
  }

  setUp(isUp: boolean): void {
    if (isUp) this.#reportedKinds.clear()
    if (isUp === this.#isUp) return
    this.#isUp = isUp
    this.#sink.state(isUp)
  }
}

/** Calls that have not settled, so that closing can wait for them. */
export class Pending<Value> {
  readonly #calls = new Set<Promise<Value>>()

  add(call: Promise<Value>): Promise<Value> {
    this.#calls.add(call)
    const done = () => this.#calls.delete(call)
    call.then(done, done)
    return call
  }

  /** Resolves once all calls of this moment have settled. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#calls)
  }
}

const NONCE = /^[0-9A-Za-z_-]{1,32}$/

/** Whether a nonce can be part of an entry's id. */
export function isNonce(nonce: string): boolean {
  return NONCE.test(nonce)
}

/** @throws TypeError for a nonce that cannot be part of an entry's id. */
export function checkNonce(nonce: string): void {
  if (isNonce(nonce)) return
  throw new TypeError(
    `append(): nonce must be 1 to 32 of the characters A-Z a-z 0-9 _ -; got ${got(nonce)}`,
  )
}

/**
 * Removes the oldest key of a set or map that is larger than its limit; call it after each insertion.
 * Sets and maps iterate in insertion order, so the first key is the oldest.
 */
export function forgetOldest(known: Set<string> | Map<string, unknown>, limit: number): void {
  if (known.size > limit) known.delete(known.keys().next().value as string)
}

/** Option names that users bring from other libraries, in lower case, and what to write instead. */
export type ForeignOptions = readonly (readonly [names: readonly string[], fix: string])[]

/**
 * Call before the general check of options, which can only suggest names that are spelled alike.
 * @throws TypeError that says what to write instead of a foreign option
 */
export function refuseForeignOptions(where: string, given: unknown, foreign: ForeignOptions): void {
  for (const name of Object.keys(Object(given))) {
    const [, fix] = foreign.find(([names]) => names.includes(name.toLowerCase())) ?? []
    if (fix !== undefined) throw new TypeError(`${where}: unknown option "${name}"; ${fix}`)
  }
}
