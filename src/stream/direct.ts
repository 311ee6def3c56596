/** What the app has sent to one stream only, until it can be written. */
import type { CloseReason } from '../lib/reasons.js'

/** Waiting sends are joined up to this many bytes, so that one write stays moderate. */
const MAX_JOINED_BYTES = 64 * 1024

export interface DirectSend {
  text: string
  bytes: number
  /**
   * Entries up to this position go first, because the app sent them earlier. Infinity while the position
   * is unknown, because some of them are still on their way to the log and back.
   */
  after: number
  /** Ends the stream, for this reason. */
  readonly closes: CloseReason | undefined
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

  push(text: string, after: number, closes: CloseReason | undefined): DirectSend {
    const bytes = Buffer.byteLength(text)
    this.#bytes += bytes
    const last = this.#sends.at(-1)
    // An object for each of a million small sends would take far more memory than their text.
    const mayJoin = closes === undefined && last?.closes === undefined && last?.after === after
    if (mayJoin && Number.isFinite(after) && last.bytes < MAX_JOINED_BYTES) {
      last.text += text
      last.bytes += bytes
      return last
    }
    const send = { text, bytes, after, closes }
    this.#sends.push(send)
    return send
  }

  /** Takes the oldest out. */
  shift(): DirectSend {
    const send = this.#sends[this.#head] as DirectSend
    this.#head += 1
    if (this.#head === this.#sends.length) {
      this.#sends = []
      this.#head = 0
    }
    this.#bytes -= send.bytes
    return send
  }

  /** Makes no send wait for entries beyond a position, which the stream will not get. */
  cap(after: number): void {
    for (const send of this.#sends) send.after = Math.min(send.after, after)
  }
}
