/**
 * One timer for all streams of a pool. At each beat it asks `authorize` again, drains streams whose
 * HTTP server no longer listens, and sends a heartbeat to streams that were quiet.
 *
 * A heartbeat carries the newest id. Without it the cursor of a quiet client would grow old and leave
 * the window, although the client has missed nothing.
 */
import type { Server } from 'node:net'
import type { Pump } from '../delivery/pump.js'
import { SLICE_MS, Slice } from '../delivery/slice.js'
import type { Window } from '../delivery/window.js'
import type { EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import { COMMENT_HEARTBEAT, cursorFrame, silentCursorFrame } from '../wire/frames.js'
import { drainStream } from './drain.js'

/** How often streams are looked after when `pingInterval` is false, in milliseconds. */
const UNPINGED_INTERVAL_MS = 15_000

export interface HeartbeatOptions {
  readonly pingInterval: number | false
  readonly heartbeat: 'event' | 'comment'
  readonly authorize: ((stream: EventStream) => boolean | Promise<boolean>) | undefined
}

/** What a beat concerns beside the heartbeats: the hub. */
export interface HeartbeatListener {
  streams(): Iterator<Stream>
  /** The interval has passed once more. */
  beat(): void
  /** `authorize` has failed. */
  error(error: unknown): void
}

export class Heartbeat {
  readonly #window: Window
  readonly #pump: Pump
  readonly #listener: HeartbeatListener
  readonly #options: HeartbeatOptions
  readonly #timer: NodeJS.Timeout
  /** The streams still to be looked after in this beat. Stays valid while streams come and go. */
  #round: Iterator<Stream> | undefined
  /** The HTTP servers that streams came by, as long as they listen. */
  readonly #servers = new Set<Server>()
  #isAnyServerClosed = false
  /** One buffer for all streams that are at the same tail. */
  #cursor = { id: undefined as string | undefined, chunk: cursorFrame(undefined) }

  constructor(window: Window, pump: Pump, listener: HeartbeatListener, options: HeartbeatOptions) {
    this.#window = window
    this.#pump = pump
    this.#listener = listener
    this.#options = options
    const interval = options.pingInterval || UNPINGED_INTERVAL_MS
    // Unref'd: a heartbeat alone must not keep a process from ending.
    this.#timer = setInterval(() => this.#beat(), interval).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Looks after a stream that has just opened. */
  watch(stream: Stream): void {
    // A server is looked at once a beat, and not for each of its streams.
    const { server } = stream
    if (server !== undefined) this.#servers.add(server)
    this.greet(stream)
  }

  /**
   * Gives an open stream its first cursor. Without one it would, if it were cut off before its first
   * event, come back as if it were new.
   */
  greet(stream: Stream): void {
    const id = this.#currentId(stream)
    if (id === undefined || stream.knowsCursor || !stream.canTake(0)) return
    const isSilent = this.#options.heartbeat === 'comment'
    stream.writeCursor(isSilent ? silentCursorFrame(id) : this.#cursorAt(id))
  }

  #ping(stream: Stream): void {
    const id = this.#currentId(stream)
    if (!stream.canTake(0)) return
    if (stream.ping !== undefined) stream.write(stream.ping)
    else if (this.#options.heartbeat === 'comment') stream.write(COMMENT_HEARTBEAT)
    else if (id === undefined) stream.write(this.#cursorAt(undefined))
    else stream.writeCursor(this.#cursorAt(id))
  }

  /** The log's newest id, if the stream has been given all up to it: else a resume would skip some. */
  #currentId(stream: Stream): string | undefined {
    this.#pump.advance(stream)
    const isCurrent = stream.withIds && stream.isAtTail(this.#window)
    return isCurrent ? this.#window.tailId : undefined
  }

  #beat(): void {
    this.#listener.beat()
    // A round that takes longer than the interval needs no second one beside it.
    if (this.#round !== undefined) return
    this.#lookAtServers()
    this.#round = this.#listener.streams()
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

  #lookAfter(stream: Stream): void {
    if (!stream.isOpen) return
    if (this.#isAnyServerClosed && stream.server?.listening === false) {
      drainStream(stream)
      return
    }
    if (this.#options.authorize) void this.#authorize(stream)
    if (this.#options.pingInterval === false) return
    // A stream that was just written to needs no sign of life, and has a fresh cursor.
    if (!stream.clearActivity() && stream.isOpen) this.#ping(stream)
  }

  async #authorize(stream: Stream): Promise<void> {
    try {
      const answer = this.#options.authorize?.(stream.face)
      // Awaiting a plain boolean would send the heartbeat before the stream is closed.
      const isAllowed = typeof answer === 'object' ? await answer : answer
      if (isAllowed === false) stream.close('expired')
    } catch (error) {
      this.#listener.error(error)
    }
  }

  #cursorAt(id: string | undefined) {
    if (this.#cursor.id !== id) this.#cursor = { id, chunk: cursorFrame(id) }
    return this.#cursor.chunk
  }
}
