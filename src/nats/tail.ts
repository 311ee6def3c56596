/**
 * What a message of the stream means: an entry that follows the one before, one of the window that
 * is just being filled, or the proof that continuity was lost. Knows nothing of connections.
 *
 * JetStream numbers its messages without holes, so a hole is something that was deleted before we
 * read it. And a number alone proves nothing: a stream that lost its memory counts from 1 again.
 * So reading is taken up at the last entry that we have had, which must come again with its nonce.
 */
import type { Entry, LogSink } from '../log/log.js'
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
  beats: number
}

/** The place where we were is gone, or another: reading has to start anew. */
export class Discontinued extends Error {}

export class Tail {
  readonly #options: TailOptions
  #incarnation = ''
  /** Why the window has to be given anew; stays until it has been, however often that fails. */
  #reason: Parameters<LogSink['reset']>[1] | undefined = 'boot'
  /** The window while it is being filled. */
  #gathered: Entry[] = []
  #gatheredBytes = 0
  /** The window is filled when it has got so far. */
  #target = 0
  #hasAskedForMark = false
  /** The last entry that was given to the sink. */
  #last: { readonly sequence: number; readonly entry: Entry } | undefined
  /** Up to where the stream has been read, foreign messages included. */
  #position = 0
  /** The sequence before in this reading; 0 at its start. */
  #previous = 0
  #needsProof = false
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
  get isSure(): boolean {
    return this.#reason === undefined && !this.#needsProof
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
  distrust(): void {
    if (this.#reason !== 'boot') this.#reason = 'replaced'
  }

  /** The sequence at which to start reading. */
  begin(facts: StreamFacts): number {
    const { first_seq, last_seq, messages } = facts.state
    const last = this.#last
    this.#previous = 0
    this.#needsProof = false
    if (this.isOther(facts) && this.#reason !== 'boot') this.#reason = 'replaced'
    this.#incarnation = incarnationOf(facts.created)
    if (this.#reason === undefined && last !== undefined) {
      if (messages > 0 && first_seq <= last.sequence) {
        this.#needsProof = true
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
    this.#gather(last_seq)
    return Math.max(first_seq, last_seq - this.#options.maxEntries + 1, 1)
  }

  /** @throws Discontinued */
  accept({ sequence, pending, data }: Message): void {
    const entry = data && decodeEntry(data, sequence, this.#incarnation)
    if (this.#needsProof) {
      this.#prove(sequence, entry)
      return
    }
    if (sequence !== this.#previous + 1 && this.#previous !== 0) this.#lose(sequence)
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
      this.#settle()
      return
    }
    if (entry !== undefined && this.#isNew(entry)) this.#keep(entry)
    if (sequence >= this.#target || pending === 0) this.#deliver()
  }

  /**
   * There is nothing more to read for now.
   * @throws Discontinued
   */
  idle(): void {
    if (this.#needsProof) {
      this.#reason = 'trimmed'
      throw new Discontinued('the last entry that was read is gone')
    }
    if (this.#reason !== undefined) this.#deliver()
    // A beat may have been on its way when the question was put; the second was sent after it.
    for (const waiter of this.#waiters) waiter.beats += 1
    this.#settle()
  }

  /** The id of the last entry once everything up to a sequence has been given to the sink. */
  reached(sequence: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ sequence, resolve, reject, beats: 0 })
      this.#settle()
    })
  }

  /** Those who wait cannot be answered. */
  reject(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }

  #prove(sequence: number, entry: Entry | undefined): void {
    const last = this.#last
    if (sequence !== last?.sequence || entry?.nonce !== last.entry.nonce) {
      this.#reason = sequence === last?.sequence ? 'replaced' : 'trimmed'
      throw new Discontinued('another entry is where the last one that was read should be')
    }
    this.#needsProof = false
    this.#previous = sequence
    this.#settle()
  }

  /** What lay before this message was deleted before it was read. */
  #lose(sequence: number): void {
    if (this.#reason !== undefined) {
      // A cursor before the hole would go on as if nothing were missing.
      this.#gather(this.#target)
    } else if (sequence > this.#position + 1) {
      this.#reason = 'trimmed'
      this.#gather(sequence)
    }
  }

  #isNew({ nonce, id }: Entry): boolean {
    const ids = this.#ids
    if (ids.has(nonce)) return false
    ids.set(nonce, id)
    if (ids.size > this.#options.maxEntries) ids.delete(ids.keys().next().value as string)
    return true
  }

  #gather(target: number): void {
    this.#gathered = []
    this.#gatheredBytes = 0
    this.#ids = new Map()
    this.#target = target
  }

  #keep(entry: Entry): void {
    this.#gathered.push(entry)
    this.#gatheredBytes += entry.frame.length
    while (this.#gatheredBytes > this.#options.windowBytes && this.#gathered.length > 1) {
      this.#gatheredBytes -= this.#gathered.shift()?.frame.length ?? 0
    }
  }

  #deliver(): void {
    const newest = this.#gathered.at(-1)
    if (newest === undefined) {
      if (!this.#hasAskedForMark) this.#options.onEmpty()
      this.#hasAskedForMark = true
      this.#target = 0
      return
    }
    const reason = this.#reason ?? 'boot'
    const window = this.#gathered
    this.#gathered = []
    this.#reason = undefined
    this.#position = this.#previous
    this.#last = { sequence: sequenceOf(newest.id, this.#incarnation), entry: newest }
    this.#options.sink.reset(window, reason)
    this.#options.onReset()
    this.#settle()
  }

  #settle(): void {
    if (this.#waiters.length === 0 || this.#needsProof || this.#reason !== undefined) return
    const id = this.#last?.entry.id
    this.#waiters = this.#waiters.filter(waiter => {
      const isReached = waiter.sequence <= this.#position || waiter.beats > 1
      if (isReached && id !== undefined) waiter.resolve(id)
      return !isReached
    })
  }
}
