/**
 * What a message of the stream means: an entry that follows the one before, one of the window that
 * is just being filled, or the proof that continuity was lost. Knows nothing of connections.
 *
 * JetStream numbers its messages without holes, so a hole is something that was deleted before we
 * read it. And a number alone proves nothing: a stream that lost its memory counts from 1 again.
 * So reading is taken up at the last entry that we have had, which must come again with its nonce.
 */
import type { Entry, LogSink } from '../log/log.js'
import { forgetOldest } from '../log/shared.js'
import { decodeEntry, incarnationOf, sequenceOf } from './entry.js'

/** What a stream says of itself. */
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
  /** How many the stream still has beyond this one. */
  readonly pending: number
  /** Undefined when it is on a subject that is not ours. */
  readonly data: Uint8Array | undefined
}

export interface TailOptions {
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  readonly maxEntries: number
  readonly windowBytes: number
  /** The window has been given. */
  readonly onReset: () => void
  /** The log has no entry at all: a mark is wanted, so that there is a cursor. */
  readonly onEmpty: () => void
}

interface Waiter {
  readonly sequence: number
  readonly resolve: (id: string) => void
  readonly reject: (error: Error) => void
  heartbeats: number
}

/** The place where we were is gone, or another: reading has to start anew. */
export class Discontinuity extends Error {}

export class Tail {
  readonly #options: TailOptions
  #incarnation = ''
  /** Why the window has to be given anew; stays until it has been, however often that fails. */
  #reason: Parameters<LogSink['reset']>[1] | undefined = 'boot'
  /** The window while it is being filled. */
  #window: Entry[] = []
  #windowBytes = 0
  /** The window is filled when it has got so far. */
  #windowEnd = 0
  #hasAskedForMark = false
  /** The last entry that was given to the sink. */
  #last: { readonly sequence: number; readonly entry: Entry } | undefined
  /** Up to where the stream has been read, foreign messages included. */
  #position = 0
  /** The sequence before in this reading; 0 at its start. */
  #previous = 0
  #isUnverified = false
  #waiters: Waiter[] = []
  #foreign = 0
  /** The ids of the newest entries, by nonce: one that comes again was sent again. */
  #ids = new Map<string, string>()

  constructor(options: TailOptions) {
    this.#options = options
  }

  get incarnation(): string {
    return this.#incarnation
  }

  /** How many messages were skipped because something else wrote them. */
  get foreign(): number {
    return this.#foreign
  }

  /** The id under which readers know the entry with this nonce, if it is among the newest. */
  idOf(nonce: string): string | undefined {
    return this.#ids.get(nonce)
  }

  /** Whether it is known that the stream is still the one that was read last. */
  get isVerified(): boolean {
    return this.#reason === undefined && !this.#isUnverified
  }

  compare(a: string, b: string): number {
    return sequenceOf(a, this.#incarnation) - sequenceOf(b, this.#incarnation)
  }

  /** Whether this cannot be the stream that has been read so far. */
  isOther({ created, state }: StreamFacts): boolean {
    return (
      this.#incarnation !== '' &&
      (incarnationOf(created) !== this.#incarnation || state.last_seq < this.#position)
    )
  }

  /** It is another stream, whatever it will say of itself. */
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
      // Deleted since, by age perhaps; but nothing was stored after it, so nothing is lost.
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
    // Foreign ones behind the last entry of ours, which were read before.
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
   * There is nothing more to read for now.
   * @throws Discontinuity
   */
  idle(): void {
    if (this.#isUnverified) {
      this.#reason = 'trimmed'
      throw new Discontinuity('the last entry that was read is gone')
    }
    if (this.#reason !== undefined) this.#deliverWindow()
    // A beat may have been on its way when the question was put; the second was sent after it.
    for (const waiter of this.#waiters) waiter.heartbeats += 1
    this.#settleWaiters()
  }

  /** The id of the last entry once everything up to a sequence has been given to the sink. */
  whenRead(sequence: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ sequence, resolve, reject, heartbeats: 0 })
      this.#settleWaiters()
    })
  }

  /** Those who wait cannot be answered. */
  rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }

  #checkContinuity(sequence: number, entry: Entry | undefined): void {
    const last = this.#last
    if (sequence !== last?.sequence || entry?.nonce !== last.entry.nonce) {
      this.#reason = sequence === last?.sequence ? 'replaced' : 'trimmed'
      throw new Discontinuity('another entry is where the last one that was read should be')
    }
    this.#isUnverified = false
    this.#previous = sequence
    this.#settleWaiters()
  }

  /** What lay before this message was deleted before it was read. */
  #onHole(sequence: number): void {
    if (this.#reason !== undefined) {
      // A cursor before the hole would go on as if nothing were missing.
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
