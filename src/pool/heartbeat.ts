/**
 * One timer for all streams of a pool. At each beat it asks `authorize` again, drains streams whose
 * HTTP server no longer listens, and sends a heartbeat to those that were quiet.
 *
 * A heartbeat carries the newest id, because the cursor of a quiet client would otherwise grow old
 * and leave the window although the client missed nothing.
 */
import type { Server } from 'node:net'
import { SLICE_MS, Slice } from '../delivery/slice.js'
import type { Window } from '../delivery/window.js'
import type { EventStream } from '../stream/stream.js'
import { Chunk } from '../wire/event.js'

/** How often streams are looked after when `pingInterval` is false. */
const UNPINGED_INTERVAL = 15_000

const COMMENT = new Chunk(':\n\n')

export interface HeartbeatOptions {
  readonly window: Window
  readonly streams: () => Iterator<EventStream>
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
  /** Who is still to be looked after in this beat; right also while streams come and go. */
  #round: Iterator<EventStream> | undefined
  /** The HTTP servers that streams came by, as long as they listen. */
  readonly #servers = new Set<Server>()
  #isAnyServerClosed = false
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

  /** Gives a stream that has just opened its first cursor. */
  greet(stream: EventStream): void {
    const id = this.#currentId(stream)
    if (id === undefined || !stream.canTake(0)) return
    // An id alone is no event, so it disturbs nobody; but Firefox and WebKit ignore it.
    const isSilent = this.#options.heartbeat === 'comment'
    stream.write(isSilent ? new Chunk(`id: ${id}\n\n`) : this.#cursorAt(id))
    stream.hasCursor = true
  }

  /** A stream has opened: its server is looked at once a beat, and not for each of its streams. */
  watch({ server }: EventStream): void {
    if (server !== undefined) this.#servers.add(server)
  }

  #ping(stream: EventStream): void {
    const id = this.#currentId(stream)
    if (!stream.canTake(0)) return
    if (stream.ping !== undefined) stream.write(stream.ping)
    else if (this.#options.heartbeat === 'comment') stream.write(COMMENT)
    else {
      stream.write(this.#cursorAt(id))
      stream.hasCursor ||= id !== undefined
    }
  }

  /** The log's newest id, if the stream has been given all up to it: else a resume would skip some. */
  #currentId(stream: EventStream): string | undefined {
    const { advance, window } = this.#options
    advance(stream)
    const isCurrent = !stream.parked && stream.withIds && stream.cursor === window.tail
    return isCurrent ? window.tailId : undefined
  }

  #beat(): void {
    this.#options.onBeat()
    // A round that takes longer than the interval is not worth a second one beside it.
    if (this.#round !== undefined) return
    this.#lookAtServers()
    this.#round = this.#options.streams()
    this.#goRound()
  }

  /** In slices, as ten thousand heartbeats in one go would hold up all requests. */
  #goRound(): void {
    const slice = new Slice(SLICE_MS)
    for (let step = this.#round?.next(); step && !step.done; step = this.#round?.next()) {
      this.#lookAfter(step.value)
      if (slice.isOver()) {
        setImmediate(() => this.#goRound())
        return
      }
    }
    this.#round = undefined
  }

  #lookAtServers(): void {
    this.#isAnyServerClosed = false
    for (const server of this.#servers) {
      if (server.listening) continue
      this.#isAnyServerClosed = true
      this.#servers.delete(server)
    }
  }

  #lookAfter(stream: EventStream): void {
    if (!stream.isOpen) return
    if (this.#isAnyServerClosed && stream.server?.listening === false) {
      this.#options.onServerClosed(stream)
      return
    }
    if (this.#options.authorize) void this.#authorize(stream)
    if (this.#options.pingInterval === false) return
    // One that was just written to needs no proof of life, and has a fresh cursor.
    if (stream.fresh) stream.fresh = false
    else if (stream.isOpen) this.#ping(stream)
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
