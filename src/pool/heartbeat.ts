/**
 * One timer for all streams of a pool, which runs only while it has readers. At each beat it calls
 * `authorize` again, drains streams whose HTTP server no longer listens, and sends a heartbeat to streams
 * that were quiet.
 *
 * A heartbeat carries the newest id. Without it the cursor of a quiet client would leave the window,
 * although the client has missed nothing.
 */
import type { Server } from 'node:net'
import type { Pump } from '../delivery/pump.js'
import { SLICE_MS, Slice } from '../delivery/slice.js'
import type { Window } from '../delivery/window.js'
import { isFunction, isRecord } from '../lib/rules.js'
import type { EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import type { Chunk } from '../wire/event.js'
import { COMMENT_HEARTBEAT, cursorFrame, silentCursorFrame } from '../wire/frames.js'
import { drainStream } from './drain.js'

/** How often streams are checked when `pingInterval` is false, in milliseconds. */
const UNPINGED_INTERVAL_MS = 15_000

/** How many calls of `authorize` may wait for an answer: a database that hangs must not get thousands. */
const MAX_QUESTIONS = 100

export interface HeartbeatOptions {
  readonly pingInterval: number | false
  readonly heartbeat: 'event' | 'comment'
  readonly authorize: ((stream: EventStream) => boolean | Promise<boolean>) | undefined
}

/** What the heartbeat works for: the hub. */
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
  #timer: NodeJS.Timeout | undefined
  /** The streams still to be checked in this beat. Stays valid while streams come and go. */
  #streams: Iterator<Stream> | undefined
  /** The streams for which `authorize` was called and has not answered. */
  readonly #asked = new Set<Stream>()
  /** The streams for which it is called as soon as others are answered. */
  readonly #unasked = new Set<Stream>()
  /** The HTTP servers of streams, as long as they listen. */
  readonly #servers = new Set<Server>()
  #isAnyServerClosed = false
  /** One buffer for all streams, as long as the tail is the same. */
  #cursor: { readonly id: string | undefined; readonly chunk: Chunk } | undefined

  constructor(window: Window, pump: Pump, listener: HeartbeatListener, options: HeartbeatOptions) {
    this.#window = window
    this.#pump = pump
    this.#listener = listener
    this.#options = options
  }

  /** Call for each new reader. */
  start(): void {
    const interval = this.#options.pingInterval || UNPINGED_INTERVAL_MS
    // Unref'd: a heartbeat alone must not keep a process from ending.
    this.#timer ??= setInterval(() => this.#beat(), interval).unref()
  }

  /** Call when there is no reader left: the timer would keep a pool that the app has dropped. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Includes a stream that has just opened. */
  watch(stream: Stream): void {
    // A server is checked once a beat, and not for each of its streams.
    const { server } = stream
    if (server !== undefined) this.#servers.add(server)
    this.sendFirstCursor(stream)
  }

  /**
   * Gives an open stream its first cursor. Without one, a client that is cut off before its first event
   * would reconnect as a new one and miss what was sent meanwhile. One that has resumed learns that it has
   * got everything it missed.
   */
  sendFirstCursor(stream: Stream): void {
    const id = this.#currentId(stream)
    if (id === undefined || !stream.needsCursor || !stream.canTake(0)) return
    if (this.#options.heartbeat === 'event') stream.writeCursor(this.#cursorAt(id))
    else if (!stream.hasResumed) stream.writeCursor(silentCursorFrame(id))
  }

  #ping(stream: Stream): void {
    const id = this.#currentId(stream)
    if (!stream.canTake(0)) return
    if (stream.ping !== undefined) stream.write(stream.ping)
    else if (this.#options.heartbeat === 'comment') stream.write(COMMENT_HEARTBEAT)
    else if (id === undefined) stream.write(this.#cursorAt(undefined))
    else stream.writeCursor(this.#cursorAt(id))
  }

  /** The log's newest id, if the stream got everything up to it; otherwise a resume would skip entries. */
  #currentId(stream: Stream): string | undefined {
    this.#pump.advance(stream)
    const isCurrent = stream.withIds && stream.isAtTail(this.#window)
    return isCurrent ? this.#window.tailId : undefined
  }

  #beat(): void {
    this.#listener.beat()
    // The last beat is still going on.
    if (this.#streams !== undefined) return
    this.#checkServers()
    for (const stream of this.#unasked) if (!stream.isOpen) this.#unasked.delete(stream)
    this.#streams = this.#listener.streams()
    this.#checkStreams()
  }

  /** In slices, because ten thousand heartbeats in one go would hold up all requests. */
  #checkStreams(): void {
    const slice = new Slice(SLICE_MS)
    for (let step = this.#streams?.next(); step && !step.done; step = this.#streams?.next()) {
      this.#checkStream(step.value)
      if (slice.isOver()) {
        setImmediate(() => this.#checkStreams())
        return
      }
    }
    this.#streams = undefined
  }

  #checkServers(): void {
    this.#isAnyServerClosed = false
    for (const server of this.#servers) {
      if (server.listening) continue
      this.#isAnyServerClosed = true
      this.#servers.delete(server)
    }
  }

  #checkStream(stream: Stream): void {
    if (!stream.isOpen) return
    if (this.#isAnyServerClosed && stream.server?.listening === false) {
      drainStream(stream)
      return
    }
    if (this.#options.authorize) this.#authorize(stream)
    if (this.#options.pingInterval === false) return
    // A stream that has just had an entry needs no sign of life, and its cursor is new.
    if (!stream.clearActivity() && stream.isOpen) this.#ping(stream)
  }

  #authorize(stream: Stream): void {
    if (this.#asked.has(stream)) return
    if (this.#asked.size >= MAX_QUESTIONS) {
      this.#unasked.add(stream)
      return
    }
    try {
      const answer: unknown = this.#options.authorize?.(stream.face)
      // Waiting for a plain boolean too would send the heartbeat before the stream is closed.
      if (isRecord(answer) && isFunction(answer.then)) void this.#settle(stream, answer)
      else expireUnless(answer, stream)
    } catch (error) {
      this.#listener.error(error)
    }
  }

  async #settle(stream: Stream, answer: unknown): Promise<void> {
    this.#asked.add(stream)
    try {
      expireUnless(await answer, stream)
    } catch (error) {
      this.#listener.error(error)
    }
    this.#asked.delete(stream)
    // A loop, because the next ones may be closed already, or be answered at once.
    for (const next of this.#unasked) {
      if (this.#asked.size >= MAX_QUESTIONS) return
      this.#unasked.delete(next)
      if (next.isOpen) this.#authorize(next)
    }
  }

  #cursorAt(id: string | undefined) {
    if (this.#cursor?.id !== id || !this.#cursor) {
      this.#cursor = { id, chunk: cursorFrame(id, this.#options.pingInterval) }
    }
    return this.#cursor.chunk
  }
}

/** Only `true` keeps a stream: a session that was not found is `undefined` or `null`, not `false`. */
function expireUnless(answer: unknown, stream: Stream): void {
  if (answer !== true) stream.close('expired')
}
