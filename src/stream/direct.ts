/** What the app sends to one stream only, until its turn comes. */
import type { CloseReason } from '../lib/reasons.js'
import { Chunk } from '../wire/event.js'

interface DirectSend {
  readonly chunk: Chunk
  readonly bytes: number
  /** The entries up to this position go first, as the app sent them before. */
  readonly after: number
  /** Ends the stream, for this reason. */
  readonly closes: CloseReason | undefined
}

export class DirectSends {
  #sends: DirectSend[] = []
  #bytes = 0

  /** How much waits. */
  get bytes(): number {
    return this.#bytes
  }

  /** The position that the oldest waits for; undefined when there is none. */
  get after(): number | undefined {
    return this.#sends[0]?.after
  }

  push(text: string, after: number, closes: CloseReason | undefined): void {
    const bytes = Buffer.byteLength(text)
    this.#sends.push({ chunk: new Chunk(text), bytes, after, closes })
    this.#bytes += bytes
  }

  /** Takes the oldest out. */
  shift(): DirectSend {
    const send = this.#sends.shift() as DirectSend
    this.#bytes -= send.bytes
    return send
  }

  /** Lets none wait for what lies beyond a position, which the stream will not get. */
  cap(after: number): void {
    this.#sends = this.#sends.map(send => ({ ...send, after: Math.min(send.after, after) }))
  }
}
