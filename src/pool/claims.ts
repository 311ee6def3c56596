/**
 * Decides which process claimed a name first. It then has the name until its claim ends.
 *
 * A claim is a message with a time on it. All processes read the same messages in the same order, so
 * each reaches the same verdict by itself: a claim gets the name unless the last claim that got it ends
 * after this one's time. Only the times in the claims count. By their own clocks, two processes that read
 * at different moments could both find the name free.
 */
import { got, SseError } from '../lib/errors.js'
import type { Listener, Messages } from '../log/messages.js'

interface Claim {
  readonly name: string
  /** Tells this claim from every other. */
  readonly by: string
  /** Since the epoch, in ms, by the clock of the process that claims. */
  readonly at: number
  readonly until: number
}

interface Waiting {
  readonly resolve: (isFirst: boolean) => void
  readonly reject: (error: SseError) => void
}

const TOPIC = 'claim'

/** How long a process waits until its own claim comes back from the log. */
const CLAIM_TIMEOUT_MS = 5000

/** How long a claim is remembered after its end, because an older one may still be on its way. */
const GRACE_MS = 60_000

/** How many names are remembered at once. Beyond that the oldest are dropped and become uncertain. */
const MAX_NAMES = 100_000

export class Claims implements Listener {
  readonly #messages: Messages
  readonly #nonce: () => string
  /** For each name the last claim that got it, in the order in which they did. */
  readonly #held = new Map<string, Claim>()
  /** This process's claims that are not decided yet, by name. */
  readonly #pending = new Map<string, Promise<boolean>>()
  readonly #waiting = new Map<string, Waiting>()
  #untilSweep = 1024
  /** When the last claim of the dropped names ends. */
  #uncertainUntil = 0

  constructor(messages: Messages, nonce: () => string) {
    this.#messages = messages
    this.#nonce = nonce
    messages.listen(TOPIC, this)
  }

  /** The number of names that are remembered, including some whose claim has ended. */
  get size(): number {
    return this.#held.size
  }

  async claim(name: string, ttl: number): Promise<boolean> {
    const at = Date.now()
    const holder = this.#held.get(name)
    // A caller that tries a thousand times must not fill the log.
    if (holder !== undefined && at < holder.until) return false
    const earlier = this.#pending.get(name)
    if (earlier !== undefined) return earlier.then(() => false)

    const claim = { name, by: this.#nonce(), at, until: at + ttl }
    const verdict = this.#contend(claim).finally(() => this.#pending.delete(name))
    this.#pending.set(name, verdict)
    return verdict
  }

  receive(body: unknown): void {
    if (!isClaim(body)) return
    const isFirst = this.#decide(body)
    this.#waiting.get(body.by)?.resolve(isFirst)
  }

  /** Without earlier claims, a process that has just started would grant a name that is taken. */
  replay(body: unknown): void {
    this.receive(body)
  }

  /** A claim may have been missed, so the first one received may not be the first one made. */
  missed(): void {
    this.#reject(() => uncertain('the log was interrupted'))
  }

  close(): void {
    this.#reject(() => new SseError('ERR_SSE_POOL_CLOSED', 'The pool was closed during the claim'))
  }

  async #contend(claim: Claim): Promise<boolean> {
    this.#checkCertain(claim)
    const isFirst = this.#messages.isAlone ? this.#decide(claim) : await this.#ask(claim)
    if (isFirst) this.#checkCertain(claim)
    return isFirst
  }

  /** Throws while the name may be one of those that were dropped. */
  #checkCertain({ at }: Claim): void {
    if (at < this.#uncertainUntil) throw uncertain(`more than ${MAX_NAMES} names are claimed`)
  }

  async #ask(claim: Claim): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const decided = new Promise<boolean>((resolve, reject) => {
      this.#waiting.set(claim.by, { resolve, reject })
      timer = setTimeout(
        () => reject(uncertain(`the log did not return it within ${CLAIM_TIMEOUT_MS} ms`)),
        CLAIM_TIMEOUT_MS,
      )
    })
    try {
      const [isFirst] = await Promise.all([decided, this.#messages.publish(TOPIC, claim)])
      return isFirst
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(claim.by)
    }
  }

  /** Whether the claim gets the name. Receiving it twice, as after an interruption, changes nothing. */
  #decide(claim: Claim): boolean {
    const holder = this.#held.get(claim.name)
    if (holder !== undefined && claim.at < holder.until) return holder.by === claim.by
    this.#held.delete(claim.name)
    this.#held.set(claim.name, claim)
    this.#makeRoom()
    return true
  }

  #makeRoom(): void {
    this.#untilSweep -= 1
    if (this.#untilSweep === 0) {
      const over = Date.now() - GRACE_MS
      for (const [name, { until }] of this.#held) if (until <= over) this.#held.delete(name)
      // Rare enough that in a flood of claims not every claim looks at all the others.
      this.#untilSweep = Math.max(1024, this.#held.size)
    }
    if (this.#held.size <= MAX_NAMES) return
    // Many at once, because finding the first of a map passes over all that were deleted before it.
    for (const { name, until } of this.#held.values()) {
      this.#held.delete(name)
      this.#uncertainUntil = Math.max(this.#uncertainUntil, until)
      if (this.#held.size <= MAX_NAMES * 0.9) break
    }
  }

  #reject(reason: () => SseError): void {
    for (const { reject } of this.#waiting.values()) reject(reason())
  }
}

/** @throws TypeError for a wrong name or `ttl`. */
export function checkClaim(name: unknown, ttl: unknown): void {
  if (typeof name !== 'string' || name === '' || name.length > 256) {
    throw new TypeError(
      `claim(): the name must be a string of 1 to 256 characters; got ${got(name)}`,
    )
  }
  if (!Number.isInteger(ttl) || (ttl as number) < 1 || (ttl as number) > MAX_TTL) {
    throw new TypeError(
      `claim(): option "ttl" must be milliseconds, a whole number from 1 to ${MAX_TTL}; got ${got(ttl)}`,
    )
  }
}

/** About 24 days, the limit of all options in milliseconds. A log does not keep claims for ever. */
const MAX_TTL = 2 ** 31 - 1

function isClaim(body: unknown): body is Claim {
  const { name, by, at, until } = (body ?? {}) as Record<string, unknown>
  return (
    typeof name === 'string' &&
    name.length <= 256 &&
    typeof by === 'string' &&
    Number.isFinite(at) &&
    Number.isFinite(until)
  )
}

function uncertain(why: string): SseError {
  return new SseError('ERR_SSE_LOG_UNCERTAIN', `The claim's outcome is unknown: ${why}`)
}
