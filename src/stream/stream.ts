/**
 * One open response: `ctx.sse`.
 *
 * It keeps a cursor instead of a queue. What is sent through the pool waits in the window, and the
 * pump moves the cursor; only what the app sends to this very stream is held here, and bounded.
 * It knows its pool only by the callbacks of its host.
 */
import type { Server } from 'node:net'
import type { Slot, Target } from '../delivery/target.js'
import { type CloseReason, SseError } from '../lib/errors.js'
import type { Client } from '../pool/client.js'
import {
  Chunk,
  type EncodeOptions,
  type EventMap,
  encodeClose,
  encodeComment,
  encodeData,
  encodeStreamEvent,
  type StreamEvent,
} from '../wire/event.js'
import { DirectSends } from './direct.js'
import { iterate, readWhile, type StreamSource } from './source.js'
import { lean } from './transport/lean.js'
import {
  type AnyResponse,
  type Outlet,
  type Transport,
  transportOf,
} from './transport/transport.js'

/** Why a stream was told of a gap. */
export type GapReason =
  /** The cursor is of this log, and older than the window. */
  | 'trimmed'
  /** The cursor is no id of this log. */
  | 'unknown'
  /** The engine's log is another one than before. */
  | 'replaced'
  /** The open stream fell behind until an entry for it left the window. */
  | 'lagged'

/** What a stream asks of its pool; one object for all streams. */
export interface StreamHost {
  readonly encode: EncodeOptions
  readonly maxBufferedBytes: number
  readonly stallTimeout: number
  /** Whether open streams keep only their socket. */
  readonly lean: boolean
  /** The position of the newest entry. */
  tail(): number
  /** Delivers what waits, as far as the socket takes it. */
  advance(stream: EventStream): void
  join(stream: EventStream, channels: readonly string[]): void
  leave(stream: EventStream, channels: readonly string[]): void
  /** Called once, whatever the cause. */
  closed(stream: EventStream, reason: CloseReason): void
}

/** What all streams of one route have in common. */
export interface StreamRoute {
  readonly closeEvent: string
  readonly resume: boolean
  /** The first bytes, a comment. */
  readonly hello: Chunk
  /** A heartbeat of the route's own, instead of the pool's. */
  readonly ping?: Chunk
}

/** Finds an outlet's stream again without a closure for each. */
const STREAM = Symbol('koa-sse-pool.stream')

type WatchedOutlet = Outlet & { [STREAM]?: EventStream | undefined }

function onOutletClose(this: WatchedOutlet): void {
  this[STREAM]?.markClosed('client')
}

function onOutletTimeout(this: WatchedOutlet): void {
  const stream = this[STREAM]
  if (stream !== undefined) stream.destroy('slow')
  // Ended, and the reader does not take the rest: the connection would stay, and hold up the server.
  else this.destroy()
}

function detach(stream: EventStream): void {
  stream.detach()
}

/** So many bytes of direct sends may wait before `send` returns false. */
const HIGH_WATER = 64 * 1024

export class EventStream<Events extends object = EventMap> {
  /** The client's id. */
  readonly id: string
  /** The client: `pool.get(id)`, with all streams of this id on this process. */
  readonly client: Client<Events>
  /**
   * The cursor that the browser brought: the `Last-Event-ID` header, else the query parameter
   * `lastEventId`, else `''`. Anybody can write anything there: do not trust it.
   */
  readonly lastEventId: string

  /** @internal */ cursor = 0
  /** @internal */ targets: readonly Target[] = []
  /** @internal */ joinedAt: Map<Target, number> | undefined
  /** @internal */ openedAt = 0
  /** @internal */ latestOnly = false
  /** @internal */ removal: Slot | undefined
  /** @internal Its cursor is not decided yet: the log is out of reach, or still being asked. */
  parked = false
  /** @internal A gap to tell of before anything else. */
  gap: GapReason | undefined
  /** @internal Has been written to since the last heartbeat, so that it needs none. */
  fresh = false
  /** @internal Whether its client knows a cursor of this log. */
  hasCursor = false

  readonly #host: StreamHost
  readonly #route: StreamRoute
  #outlet!: WatchedOutlet
  #transport: Transport<Outlet>
  #opened = false
  #blocked = false
  #watchesStalls = false
  #ended = false
  /** The app has sent ids of its own, which a cursor must not overwrite. */
  #hidesCursor = false
  #reason: CloseReason | undefined
  /** Direct sends that wait, if any do. */
  #direct: DirectSends | undefined
  #waiting: ((open: boolean) => void)[] | undefined
  #closed: { promise: Promise<CloseReason>; resolve: (reason: CloseReason) => void } | undefined
  #abort: AbortController | undefined
  #state: Record<PropertyKey, unknown> | undefined
  #opening: { soon(): void } | undefined
  /** Stops the sources that are being read. */
  #sources: Set<() => void> | undefined

  /** @internal */
  constructor(
    client: Client<Events>,
    res: AnyResponse,
    route: StreamRoute,
    host: StreamHost,
    lastEventId: string,
    opening: { soon(): void },
  ) {
    this.id = client.id
    this.client = client
    this.lastEventId = lastEventId
    this.#host = host
    this.#route = route
    this.#transport = transportOf(res)
    this.#opening = opening
    this.#watch(res)
    // A pipelined response has no socket yet, and would not hear that its client left.
    if (res.socket === null) res.req.socket.once('close', () => this.markClosed('client'))
  }

  /** Yours: whatever the app wants to remember of this stream. */
  get state(): Record<PropertyKey, unknown> {
    this.#state ??= {}
    return this.#state
  }

  set state(state: Record<PropertyKey, unknown>) {
    this.#state = state
  }

  /**
   * Aborts when the stream closes: hand it to `fetch` or a database, so that work for a client that
   * has left stops. Its reason is an SseError `ERR_SSE_CLOSED` with the close reason.
   */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#reason !== undefined) this.#abort.abort(closedError(this.#reason))
    }
    return this.#abort.signal
  }

  /**
   * Resolves, and never rejects, when the stream has closed, to the reason. A handler that waits for
   * it opens the stream first, by sending something: `ctx.sse.comment()`.
   */
  get closed(): Promise<CloseReason> {
    if (this.#closed === undefined) {
      let resolve!: (reason: CloseReason) => void
      const promise = new Promise<CloseReason>(r => {
        resolve = r
      })
      this.#closed = { promise, resolve }
      if (this.#reason !== undefined) resolve(this.#reason)
    }
    return this.#closed.promise
  }

  /** Bytes that wait in this process, in direct sends and in the socket; the kernel holds more. */
  get bufferedBytes(): number {
    const inSocket = this.#opened ? this.#transport.bufferedBytes(this.#outlet) : 0
    return this.#directBytes + inSocket
  }

  /**
   * Sends an event to this stream only. It is not in the log and is not replayed; it arrives after
   * whatever was sent through the pool before.
   *
   * Returns true to go on; false when the reader is behind (await {@link drained}) or has left.
   * Past `maxBufferedBytes` the stream is closed as `slow`. Never throws because a client left.
   * @throws TypeError that names the field, when the event is wrong; nothing is written then.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   */
  send(event: StreamEvent<Events>): boolean {
    if (this.#ended) return false
    const frame = encodeStreamEvent(event, this.#host.encode)
    if (typeof event === 'object' && event.id !== undefined) this.#hidesCursor = true
    return this.#push(frame)
  }

  /** Sends a comment, which browsers ignore; each line of the text becomes one. Returns as `send` does. */
  comment(text = ''): boolean {
    if (this.#ended) return false
    return this.#push(encodeComment(text))
  }

  /**
   * Sends each item of a source: an iterable, an async iterable, a Node stream or a web stream.
   * Reads no faster than the client does, and stops the source when the client leaves. The stream
   * stays open afterwards. Bytes are decoded as UTF-8.
   *
   * @param map makes an event of an item; without it an item must be an event itself.
   * Rejects with the source's own error, and as {@link send} throws.
   */
  async stream<Item>(
    source: StreamSource<Item>,
    map?: (item: Item) => StreamEvent<Events>,
  ): Promise<void> {
    const items = iterate(source)
    if (this.#ended) return items.stop()
    // A source may be quiet for long, and the client should know by then that it is connected.
    this.#sendsFirst()
    this.#sources ??= new Set()
    await readWhile(this.#sources, items, async item => {
      const event = map ? map(item as Item) : (item as StreamEvent<Events>)
      return this.send(event) || this.drained()
    })
  }

  /** Resolves to true as soon as `send` would return true, and to false when the stream has closed. */
  async drained(): Promise<boolean> {
    if (this.#ended) return false
    if (!this.#isFull) return true
    return new Promise(resolve => {
      this.#waiting ??= []
      this.#waiting.push(resolve)
    })
  }

  /**
   * Joins channels, from their tail only. Entries that this client missed in a channel while it was
   * away are replayed only if the route's `channels` option names it.
   * @throws TypeError for a name with control or invisible characters.
   */
  join(...channels: string[]): this {
    if (!this.#ended) this.#host.join(this as EventStream, channels)
    return this
  }

  /** Leaves channels; those that it has not joined are ignored. */
  leave(...channels: string[]): this {
    if (!this.#ended) this.#host.leave(this as EventStream, channels)
    return this
  }

  /**
   * Sends the close event, then ends. The browser reconnects once more and is answered 204, which
   * stops it for good, by the standard and without code on the page. A second call does nothing.
   * @throws TypeError when the data cannot be serialized.
   */
  end(data?: unknown): void {
    if (this.#ended) return
    this.finish('end', encodeData(data, this.#host.encode))
  }

  // What follows is for the pump, the pool and the middleware.

  /** @internal */
  get isOpen(): boolean {
    return this.#opened && this.#reason === undefined
  }

  /** @internal */
  get isClosed(): boolean {
    return this.#reason !== undefined
  }

  /** @internal Whether it will end as soon as all that waits before is out. */
  get isEnding(): boolean {
    return this.#ended
  }

  /** @internal Whether it is behind because its socket is full. */
  get isBlocked(): boolean {
    return this.#blocked
  }

  /** @internal Whether entries carry their ids. */
  get withIds(): boolean {
    return this.#route.resume && !this.#hidesCursor
  }

  /** @internal */
  get resumes(): boolean {
    return this.#route.resume
  }

  /** @internal */
  get ping(): Chunk | undefined {
    return this.#route.ping
  }

  /** @internal */
  get server(): Server | undefined {
    return this.#transport.server(this.#outlet)
  }

  /** @internal Puts its cursor where the window has the entry that it got last. */
  goOnAt(position: number): void {
    this.cursor = position
    // A removal before that was of an earlier visit of the same id.
    if (this.removal !== undefined && this.removal.position <= position) this.removal = undefined
  }

  /** @internal The position that the oldest direct send waits for. */
  get directAfter(): number | undefined {
    return this.#direct?.after
  }

  /**
   * @internal Whether it may be written to now. A blocked one may, while no more than the allowance
   * waits in its socket: by default, when the kernel has taken all and `drain` is just not out yet.
   */
  canTake(allowance: number): boolean {
    if (!this.isOpen) return false
    return !this.#blocked || this.#transport.bufferedBytes(this.#outlet) <= allowance
  }

  /** @internal Sends the headers; what waits is delivered by the pump. */
  open(headers: Record<string, string>, retry: number | undefined): void {
    if (this.#opened || this.#reason !== undefined) return
    this.#opened = true
    this.#opening = undefined
    const { hello } = this.#route
    // A byte at once, as Firefox waits for one before it calls the stream open.
    const first =
      retry === undefined ? hello : new Chunk(hello.text.replace(/\n$/, `retry: ${retry}\n\n`))
    this.#transport.open(this.#outlet, headers, first)
  }

  /** @internal Nobody else needs the response any more: Koa has asked for its answer. */
  settle(): void {
    // Not in Koa's own call, nor while Node may still be parsing what came with the request.
    if (this.#host.lean) setImmediate(detach, this as EventStream)
  }

  /** @internal Goes on with the bare socket, if it can be had. */
  detach(): void {
    if (!this.isOpen || this.#blocked) return
    const res = this.#outlet
    const socket = this.#transport.detach?.(res)
    if (socket === undefined) return
    // It is about to emit `close`.
    res[STREAM] = undefined
    this.#transport = lean as Transport<Outlet>
    this.#watchesStalls = false
    this.#watch(socket)
  }

  /** @internal */
  get clientTarget(): Target {
    return this.client.target
  }

  /** @internal It is decided where it goes on. */
  wake(): void {
    this.#host.advance(this as EventStream)
  }

  /** @internal */
  get isLean(): boolean {
    return this.#transport === lean
  }

  /** @internal */
  write(chunk: Chunk): void {
    const mayGoOn = this.#transport.write(this.#outlet, chunk)
    // Node says "enough" also when the kernel took everything; only a rest is worth waiting for.
    if (!mayGoOn && this.#transport.bufferedBytes(this.#outlet) > 0) this.#block()
  }

  /** @internal Writes the oldest direct send. */
  writeDirect(): void {
    const waiting = this.#direct as DirectSends
    const direct = waiting.shift()
    if (waiting.after === undefined) this.#direct = undefined
    if (direct.bytes > 0) this.write(direct.chunk)
    if (!this.#isFull) this.#settleWaiting()
    if (direct.closes !== undefined) {
      this.#transport.end(this.#outlet)
      this.markClosed(direct.closes)
    }
  }

  /** @internal Sends the close event after all that waits up to a position, then ends. */
  finish(reason: CloseReason, dataLines: string, after = this.#host.tail()): void {
    if (this.#ended) return
    // Whoever was removed must not get the entries that later direct sends would wait for.
    this.#direct?.cap(after)
    this.#push(encodeClose(this.#route.closeEvent, dataLines), after, reason)
  }

  /** @internal For `koa-sse-pool/compat`, which has frames of its own: sends one as it is. */
  sendFrame(frame: string): boolean {
    return !this.#ended && this.#push(frame)
  }

  /** @internal Sends a frame as it is, then ends. */
  finishFrame(frame: string): void {
    if (!this.#ended) this.#push(frame, this.#host.tail(), 'end')
  }

  /** @internal Ends without a close event, so that the client comes back and resumes. */
  dismiss(reason: CloseReason, retry?: number): void {
    // What the app sent just before comes first; but nothing for whoever may no longer listen.
    const getsTheRest = reason !== 'expired'
    if (getsTheRest) this.#host.advance(this as EventStream)
    if (this.#reason !== undefined) return
    if (this.#blocked) {
      this.destroy(reason)
      return
    }
    const farewell = new Chunk(retry === undefined ? '' : `retry: ${retry}\n\n`)
    if (this.#opened) {
      if (farewell.text !== '') this.write(farewell)
      this.#transport.end(this.#outlet)
      this.markClosed(reason)
    } else if (!this.#ended) {
      this.#push(farewell.text, getsTheRest ? this.#host.tail() : 0, reason)
    }
  }

  /** @internal Breaks off visibly, so that the client comes back: the handler has failed. */
  cut(): void {
    if (this.#reason !== undefined) return
    this.markClosed('error')
    this.#transport.cut(this.#outlet)
  }

  /** @internal Frees the connection of a reader that takes nothing. */
  destroy(reason: CloseReason): void {
    if (this.#reason !== undefined) return
    this.markClosed(reason)
    this.#transport.destroy(this.#outlet)
  }

  /** @internal Everything that follows from the stream being closed, once. */
  markClosed(reason: CloseReason): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#ended = true
    this.#direct = undefined
    this.#opening = undefined
    this.#outlet[STREAM] = undefined
    this.#host.closed(this as EventStream, reason)
    this.#settleWaiting()
    for (const stop of this.#sources ?? []) stop()
    this.#abort?.abort(closedError(reason))
    this.#closed?.resolve(reason)
  }

  #watch(outlet: Outlet): void {
    this.#outlet = outlet
    this.#outlet[STREAM] = this as EventStream
    this.#outlet.on('close', onOutletClose)
  }

  get #directBytes(): number {
    return this.#direct?.bytes ?? 0
  }

  get #isFull(): boolean {
    return this.#blocked || this.#directBytes >= HIGH_WATER
  }

  #push(text: string, after = this.#host.tail(), closes?: CloseReason): boolean {
    if (closes !== undefined) this.#ended = true
    this.#direct ??= new DirectSends()
    this.#direct.push(text, after, closes)
    if (this.#opened) {
      this.#host.advance(this as EventStream)
    } else {
      this.#sendsFirst()
    }
    // Not what is in the socket: those may be entries, which are bounded by the size of a batch.
    if (this.#directBytes > this.#host.maxBufferedBytes) this.destroy('slow')
    return !this.#ended && !this.#isFull
  }

  #sendsFirst(): void {
    this.#opening?.soon()
    this.#opening = undefined
  }

  #block(): void {
    if (this.#blocked) return
    this.#blocked = true
    if (!this.#watchesStalls) {
      this.#watchesStalls = true
      this.#outlet.on('timeout', onOutletTimeout)
    }
    // Node's own timer counts only while the kernel takes nothing at all from us.
    this.#outlet.setTimeout(this.#host.stallTimeout)
    this.#transport.onceDrained(this.#outlet, () => {
      this.#blocked = false
      this.#outlet.setTimeout(0)
      if (this.#reason !== undefined) return
      this.#host.advance(this as EventStream)
      if (!this.#isFull) this.#settleWaiting()
    })
  }

  #settleWaiting(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    for (const resolve of waiting ?? []) resolve(!this.#ended)
  }
}

function closedError(reason: CloseReason): SseError {
  return new SseError('ERR_SSE_CLOSED', `The event stream has closed: ${reason}`, { reason })
}
