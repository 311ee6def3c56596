/** What the app has sent to one stream only, until it can be written. */
import type { Waiter } from '../delivery/in-flight.js'
import type { CloseReason } from '../lib/reasons.js'

/** Waiting sends are joined up to this many bytes, so that one write stays moderate. */
const MAX_JOINED_BYTES = 64 * 1024

/** What a direct send must not overtake: entries up to a position, or sends that are still in flight. */
export interface Predecessors {
  readonly position: number
  /** Which sends in flight: two direct sends of the same round follow the same ones. 0 for none. */
  readonly round: number
}

export class DirectSend implements Waiter {
  text: string
  bytes: number
  /** Ends the stream, for this reason. */
  closes: CloseReason | undefined
  readonly round: number
  /** How many sends in flight it waits for. */
  pending = 0
  #position: number
  readonly #onReady: () => void

  constructor(
    text: string,
    bytes: number,
    { position, round }: Predecessors,
    closes: CloseReason | undefined,
    onReady: () => void,
  ) {
    this.text = text
    this.bytes = bytes
    this.closes = closes
    this.round = round
    this.#position = position
    this.#onReady = onReady
  }

  /**
   * Entries up to this position go first, because the app sent them earlier. Infinity while some of them
   * are still on their way to the log and back.
   */
  get after(): number {
    return this.pending > 0 ? Number.POSITIVE_INFINITY : this.#position
  }

  settled(position: number): void {
    if (this.pending === 0) return
    this.pending -= 1
    this.#position = Math.max(this.#position, position)
    if (this.pending === 0) this.#onReady()
  }

  /** Waits for no entries beyond this position, and for no sends. */
  cap(position: number): void {
    this.#position = this.pending > 0 ? position : Math.min(this.#position, position)
    this.pending = 0
  }

  /** Positions mean something else now: every entry that the window has goes first. */
  renumber(tail: number): void {
    this.#position = tail
  }
}

export class DirectSends {
  #sends: DirectSend[] = []
  /** Sends before this index were taken out; removing each from the array would move all the others. */
  #head = 0
  #bytes = 0

  /** How many bytes wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** The position that the oldest waits for; undefined when there is none. */
  get after(): number | undefined {
    return this.#sends[this.#head]?.after
  }

  /** Why the last one ends the stream, if it does. */
  get closes(): CloseReason | undefined {
    return this.#sends.at(-1)?.closes
  }

  /** Whether there is only one. */
  get isSingle(): boolean {
    return this.#sends.length - this.#head === 1
  }

  /** @returns the send, if it is not joined with the one before. */
  push(
    text: string,
    predecessors: Predecessors,
    closes: CloseReason | undefined,
    onReady: () => void,
  ): DirectSend | undefined {
    const bytes = Buffer.byteLength(text)
    this.#bytes += bytes
    const last = this.#sends.at(-1)
    // An object for each of a million small sends would take far more memory than their text.
    if (last !== undefined && closes === undefined && mayJoin(last, predecessors)) {
      last.text += text
      last.bytes += bytes
      return undefined
    }
    const send = new DirectSend(text, bytes, predecessors, closes, onReady)
    this.#sends.push(send)
    return send
  }

  /** Takes the oldest out. */
  shift(): DirectSend {
    const send = this.#sends[this.#head] as DirectSend
    this.#head += 1
    // Half of the array is empty: moving the rest now costs each send one move on average, and what is
    // out must not be kept while others wait.
    if (this.#head * 2 >= this.#sends.length) {
      this.#sends = this.#sends.slice(this.#head)
      this.#head = 0
    }
    this.#bytes -= send.bytes
    return send
  }

  /** Replaces the last send, which ends the stream, by another one that does. */
  closeWith(text: string, closes: CloseReason): void {
    const last = this.#sends.at(-1) as DirectSend
    const bytes = Buffer.byteLength(text)
    this.#bytes += bytes - last.bytes
    Object.assign(last, { text, bytes, closes })
  }

  /** Makes no send wait for entries beyond a position, nor for sends in flight. */
  cap(position: number): void {
    for (const send of this.#sends) send.cap(position)
  }

  /** The window was filled anew, so the positions that they wait for are gone. */
  renumber(tail: number): void {
    for (const send of this.#sends) send.renumber(tail)
  }
}

function mayJoin(last: DirectSend, { position, round }: Predecessors): boolean {
  if (last.closes !== undefined || last.bytes >= MAX_JOINED_BYTES) return false
  return round === 0 ? last.after === position : last.round === round && last.pending > 0
}
