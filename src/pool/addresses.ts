/** The limits for one address: how many streams it may have open, and how fast it may open them. */
import type { Refusal } from './stats.js'

/** For how long an address may save up its rate, in milliseconds: a browser opens all its tabs at once. */
const BURST_MS = 10_000

/** The rate is remembered of this many addresses that came last, and of at most twice as many. */
const MAX_REMEMBERED = 10_000

export interface AddressLimits {
  readonly maxStreamsPerAddress: number
  readonly connectRate: number
}

export class Addresses {
  readonly #limits: AddressLimits
  /** How many streams and long polls each address has now. */
  readonly #open = new Map<string, number>()
  /**
   * When each address has its whole burst again, by `performance.now()`: a token bucket in one number
   * (GCRA).
   */
  #recent = new Map<string, number>()
  /** Those that came before. Dropped as a whole, as one by one leaves holes that each look has to skip. */
  #older: ReadonlyMap<string, number> = new Map()

  constructor(limits: AddressLimits) {
    this.#limits = limits
  }

  /** Whether an address makes any difference. */
  get isLimited(): boolean {
    const { maxStreamsPerAddress, connectRate } = this.#limits
    return Math.min(maxStreamsPerAddress, connectRate) !== Number.POSITIVE_INFINITY
  }

  /** Why a request of this address is refused, if so; otherwise it counts for the rate. */
  refusal(address: string | undefined): Refusal | undefined {
    return this.full(address) ?? this.#tooFast(address)
  }

  /** Whether the address has no place left. */
  full(address: string | undefined): Refusal | undefined {
    const open = address === undefined ? 0 : (this.#open.get(address) ?? 0)
    return open >= this.#limits.maxStreamsPerAddress ? 'address' : undefined
  }

  /** Takes a place for a stream or a poll. Returns what to call when it is over. */
  enter(address: string | undefined): () => void {
    if (address === undefined) return () => {}
    this.#open.set(address, (this.#open.get(address) ?? 0) + 1)
    return () => {
      const left = (this.#open.get(address) ?? 0) - 1
      if (left > 0) this.#open.set(address, left)
      else this.#open.delete(address)
    }
  }

  #tooFast(address: string | undefined): Refusal | undefined {
    const { connectRate } = this.#limits
    if (address === undefined || connectRate === Number.POSITIVE_INFINITY) return undefined
    const now = performance.now()
    const cost = 1000 / connectRate
    const restored = this.#recent.get(address) ?? this.#older.get(address) ?? 0
    const missing = Math.max(restored - now, 0)
    // Even a rate below one in ten seconds allows a single stream.
    if (missing + cost > Math.max(BURST_MS, cost)) return 'rate'
    this.#recent.set(address, now + missing + cost)
    if (this.#recent.size >= MAX_REMEMBERED) {
      this.#older = this.#recent
      this.#recent = new Map()
    }
    return undefined
  }
}
