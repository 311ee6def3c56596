/**
 * Decides what a message of the stream means: the next entry, part of a window that is being filled, or
 * proof that continuity was lost. Knows nothing about connections.
 *
 * JetStream numbers messages without holes, so a hole is a message that was deleted before this process
 * read it. A number alone proves nothing, because a stream that lost its data counts from 1 again.
 * Reading therefore resumes at the last entry that was read, which must arrive again with its nonce.
 */
import type { Entry, LogSink } from '../log/log.js'
import { forgetOldest } from '../log/shared.js'
import { decodeEntry, incarnationOf, sequenceOf } from './entry.js'

/** The part of the server's stream info that is used. */
export interface StreamFacts {
  readonly created: string
  readonly state: {
    readonly messages: number
    readonly first_seq: number
    readonly last_seq: number
  }
}

export interface Message {
  readonly sequence: number
  /** How many messages the stream holds after this one. */
  readonly pending: number
  /** Undefined for a message on another subject. */
  readonly data: Uint8Array | undefined
}

export interface TailOptions {
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  readonly maxEntries: number
  readonly windowBytes: number
  /** The sink has received the window. */
  readonly onReset: () => void
  /** The log holds no entry: append a mark, so that clients have a cursor. */
  readonly onEmpty: () => void
}

interface Waiter {
  readonly sequence: number
  readonly resolve: (id: string) => void
  readonly reject: (error: Error) => void
  heartbeats: number
}

/** The position of the last reading is gone or holds another entry: read the window again. */
export class Discontinuity extends Error {}

export class Tail {
  readonly #options: TailOptions
  #incarnation = ''
  /** Why the sink needs a new window; kept until it has received one, however often that fails. */
  #reason: Parameters<LogSink['reset']>[1] | undefined = 'boot'
  /** The window while it is being filled. */
  #window: Entry[] = []
  #windowBytes = 0
  /** The sequence at which the window is complete. */
  #windowEnd = 0
  #hasAskedForMark = false
  /** The last entry that the sink has received. */
  #last: { readonly sequence: number; readonly entry: Entry } | undefined
  /** The sequence up to which the stream was read, foreign messages included. */
  #position = 0
  /** The previous sequence in this reading; 0 at its start. */
  #previous = 0
  #isUnverified = false
  #waiters: Waiter[] = []
  #foreign = 0
  /** The ids of the newest entries by nonce, to skip entries that were stored twice. */
  #ids = new Map<string, string>()

  constructor(options: TailOptions) {
    this.#options = options
  }

  get incarnation(): string {
    return this.#incarnation
  }

  /** How many messages were skipped because another program wrote them. */
  get foreign(): number {
    return this.#foreign
  }

  /** The id under which readers know the entry with this nonce, if it is among the newest. */
  idOf(nonce: string): string | undefined {
    return this.#ids.get(nonce)
  }

  /** Whether the stream is known to be the one that was read last. */
  get isVerified(): boolean {
    return this.#reason === undefined && !this.#isUnverified
  }

  compare(a: string, b: string): number {
    return sequenceOf(a, this.#incarnation) - sequenceOf(b, this.#incarnation)
  }

  /** The sequence up to which the stream was read. */
  get position(): number {
    return this.#position
  }

  /**
   * Whether this is certainly not the stream that was read so far.
   *
   * @param position how far it was read when the facts were requested. Entries that arrive before the
   * answer must not make the stream look shorter than what was read.
   */
  isOther({ created, state }: StreamFacts, position = this.#position): boolean {
    return (
      this.#incarnation !== '' &&
      (incarnationOf(created) !== this.#incarnation || state.last_seq < position)
    )
  }

  /** The next window is one of another stream, even if its info looks the same. */
  markReplaced(): void {
    if (this.#reason !== 'boot') this.#reason = 'replaced'
  }

  /** The sequence at which to start reading. */
  begin(facts: StreamFacts): number {
    const { first_seq, last_seq, messages } = facts.state
    const last = this.#last
    this.#previous = 0
    this.#isUnverified = false
    if (this.isOther(facts) && this.#reason !== 'boot') this.#reason = 'replaced'
    this.#incarnation = incarnationOf(facts.created)
    if (this.#reason === undefined && last !== undefined) {
      if (messages > 0 && first_seq <= last.sequence) {
        this.#isUnverified = true
        return last.sequence
      }
      // The entry was deleted, perhaps by age. Nothing was stored after it, so nothing was lost.
      if (last_seq === this.#position) {
        this.#previous = this.#position
        return this.#position + 1
      }
      this.#reason = 'trimmed'
    }
    this.#hasAskedForMark = false
    this.#position = 0
    this.#startWindow(last_seq)
    return Math.max(first_seq, last_seq - this.#options.maxEntries + 1, 1)
  }

  /** @throws Discontinuity */
  accept({ sequence, pending, data }: Message): void {
    const entry = data && decodeEntry(data, sequence, this.#incarnation)
    if (this.#isUnverified) {
      this.#checkContinuity(sequence, entry)
      return
    }
    if (sequence !== this.#previous + 1 && this.#previous !== 0) this.#onHole(sequence)
    this.#previous = sequence
    // Foreign messages after the last entry, which were read before.
    if (sequence <= this.#position) return
    if (entry === undefined) this.#foreign += 1
    if (this.#reason === undefined) {
      this.#position = sequence
      if (entry !== undefined && this.#isNew(entry)) {
        this.#last = { sequence, entry }
        this.#options.sink.append([entry])
      }
      this.#settleWaiters()
      return
    }
    if (entry !== undefined && this.#isNew(entry)) this.#addToWindow(entry)
    if (sequence >= this.#windowEnd || pending === 0) this.#deliverWindow()
  }

  /**
   * Call when the stream holds nothing more to read.
   * @throws Discontinuity
   */
  idle(): void {
    if (this.#isUnverified) {
      this.#reason = 'trimmed'
      throw new Discontinuity('the last entry that was read is gone')
    }
    if (this.#reason !== undefined) this.#deliverWindow()
    // The first heartbeat may have been sent before the call of `whenRead`; the second was not.
    for (const waiter of this.#waiters) waiter.heartbeats += 1
    this.#settleWaiters()
  }

  /** Resolves to the id of the last entry once the sink has everything up to this sequence. */
  whenRead(sequence: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ sequence, resolve, reject, heartbeats: 0 })
      this.#settleWaiters()
    })
  }

  /** Rejects all calls of `whenRead`, because reading was interrupted. */
  rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }

  #checkContinuity(sequence: number, entry: Entry | undefined): void {
    const last = this.#last
    if (sequence !== last?.sequence || entry?.nonce !== last.entry.nonce) {
      this.#reason = sequence === last?.sequence ? 'replaced' : 'trimmed'
      throw new Discontinuity('the last entry that was read is gone, or another one took its place')
    }
    this.#isUnverified = false
    this.#previous = sequence
    this.#settleWaiters()
  }

  /** The messages just before this one were deleted before they were read. */
  #onHole(sequence: number): void {
    if (this.#reason !== undefined) {
      // The window must not span the hole: a cursor before it would resume as if nothing were missing.
      this.#startWindow(this.#windowEnd)
    } else if (sequence > this.#position + 1) {
      this.#reason = 'trimmed'
      this.#startWindow(sequence)
    }
  }

  #isNew({ nonce, id }: Entry): boolean {
    const ids = this.#ids
    if (ids.has(nonce)) return false
    ids.set(nonce, id)
    forgetOldest(ids, this.#options.maxEntries)
    return true
  }

  #startWindow(target: number): void {
    this.#window = []
    this.#windowBytes = 0
    this.#ids = new Map()
    this.#windowEnd = target
  }

  #addToWindow(entry: Entry): void {
    this.#window.push(entry)
    this.#windowBytes += entry.frame.length
    while (this.#windowBytes > this.#options.windowBytes && this.#window.length > 1) {
      this.#windowBytes -= this.#window.shift()?.frame.length ?? 0
    }
  }

  #deliverWindow(): void {
    const newest = this.#window.at(-1)
    if (newest === undefined) {
      if (!this.#hasAskedForMark) this.#options.onEmpty()
      this.#hasAskedForMark = true
      this.#windowEnd = 0
      return
    }
    const reason = this.#reason ?? 'boot'
    const window = this.#window
    this.#window = []
    this.#reason = undefined
    this.#position = this.#previous
    this.#last = { sequence: sequenceOf(newest.id, this.#incarnation), entry: newest }
    this.#options.sink.reset(window, reason)
    this.#options.onReset()
    this.#settleWaiters()
  }

  #settleWaiters(): void {
    if (this.#waiters.length === 0 || this.#isUnverified || this.#reason !== undefined) return
    const id = this.#last?.entry.id
    this.#waiters = this.#waiters.filter(waiter => {
      const isReached = waiter.sequence <= this.#position || waiter.heartbeats > 1
      if (isReached && id !== undefined) waiter.resolve(id)
      return !isReached
    })
  }
}
