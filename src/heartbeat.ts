/**
 * One timer for all streams of a pool. At each beat it asks `authorize` again, drains streams whose
 * HTTP server no longer listens, and sends a heartbeat to those that were quiet.
 *
 * A heartbeat carries the newest id, because the cursor of a quiet client would otherwise grow old
 * and leave the window although the client missed nothing.
 */
import { Chunk } from './event.js'
import type { EventStream } from './stream.js'
import type { Window } from './window.js'

/** How often streams are looked after when `pingInterval` is false. */
const UNPINGED_INTERVAL = 15_000

const COMMENT = new Chunk(':\n\n')

export interface HeartbeatOptions {
  readonly window: Window
  readonly streams: ReadonlySet<EventStream>
  readonly pingInterval: number | false
  readonly heartbeat: 'event' | 'comment'
  readonly authorize: ((stream: EventStream) => boolean | Promise<boolean>) | undefined
  readonly advance: (stream: EventStream) => void
  /** The stream's HTTP server has been told to close. */
  readonly onServerClosed: (stream: EventStream) => void
  /** Whatever else is to be looked after from time to time. */
  readonly onBeat: () => void
  readonly onError: (error: unknown) => void
}

export class Heartbeat {
  readonly #options: HeartbeatOptions
  readonly #timer: NodeJS.Timeout
  /** One buffer for all who are at the same tail. */
  #cursor = { id: undefined as string | undefined, chunk: cursorChunk(undefined) }

  constructor(options: HeartbeatOptions) {
    this.#options = options
    const interval = options.pingInterval || UNPINGED_INTERVAL
    // Unref'd: a heartbeat alone must not keep a process from ending.
    this.#timer = setInterval(() => this.#beat(), interval).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Tells a stream how far the log has got, with an id only if the stream has been given all of it. */
  greet(stream: EventStream): void {
    this.#options.advance(stream)
    if (!stream.canTake(0)) return
    const { window, heartbeat } = this.#options
    // An id beyond what the stream was given would make its next resume skip entries.
    const isCurrent = !stream.parked && stream.withIds && stream.cursor === window.tail
    if (stream.ping !== undefined) stream.write(stream.ping)
    else if (heartbeat === 'comment') stream.write(COMMENT)
    else {
      const id = isCurrent ? window.tailId : undefined
      stream.write(this.#cursorAt(id))
      stream.hasCursor ||= id !== undefined
    }
  }

  #beat(): void {
    this.#options.onBeat()
    for (const stream of this.#options.streams) {
      if (!stream.isOpen) continue
      if (!stream.isServerListening) {
        this.#options.onServerClosed(stream)
        continue
      }
      void this.#authorize(stream)
      if (this.#options.pingInterval === false) continue
      // One that was just written to needs no proof of life, and has a fresh cursor.
      if (stream.fresh) stream.fresh = false
      else if (stream.isOpen) this.greet(stream)
    }
  }

  async #authorize(stream: EventStream): Promise<void> {
    try {
      const answer = this.#options.authorize?.(stream)
      // Awaiting a plain boolean would send the heartbeat before the stream is closed.
      const allowed = typeof answer === 'object' ? await answer : answer
      if (allowed === false) stream.dismiss('expired')
    } catch (error) {
      this.#options.onError(error)
    }
  }

  #cursorAt(id: string | undefined): Chunk {
    if (this.#cursor.id !== id) this.#cursor = { id, chunk: cursorChunk(id) }
    return this.#cursor.chunk
  }
}

/** With a data line, since Firefox and WebKit ignore an id without one. */
function cursorChunk(id: string | undefined): Chunk {
  return new Chunk(`event: sse.cursor\n${id === undefined ? '' : `id: ${id}\n`}data:\n\n`)
}
