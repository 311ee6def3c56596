/**
 * One open response, as the pool sees it. The app holds its face instead, `ctx.sse` (face.ts).
 *
 * A stream is a reader, so it has a cursor instead of a queue. What is sent through the pool stays in
 * the window until the pump delivers it. Only what the app sends to this one stream is held here, up to
 * a limit.
 */
import type { Server } from 'node:net'
import type { InFlight } from '../delivery/in-flight.js'
import { LastPage, Page } from '../delivery/pages.js'
import type { Pump } from '../delivery/pump.js'
import { Gap, type Place, Reader } from '../delivery/reader.js'
import type { Batch, Target } from '../delivery/target.js'
import type { Window } from '../delivery/window.js'
import type { CloseReason, GapReason } from '../lib/reasons.js'
import { Chunk, type EncodeOptions } from '../wire/event.js'
import { closeFrame, gapFrame, NO_DATA, retryFrame, withRetry } from '../wire/frames.js'
import { GzipStream } from '../wire/gzip.js'
import { DONE_ENDINGS, ENDINGS } from './closing.js'
import type { Connections } from './connections.js'
import { DirectSends } from './direct.js'
import type { EventStream } from './event-stream.js'
import { lean } from './transport/lean.js'
import { connectionOf, transportOf } from './transport/select.js'
import type { AnyResponse, Outlet, Transport, TransportName } from './transport/transport.js'

/** What a stream needs of its pool: the hub. One for all streams. */
export interface StreamHost {
  readonly window: Window
  readonly pump: Pump
  readonly inFlight: InFlight
  readonly options: EncodeOptions & {
    readonly maxBufferedBytes: number
    readonly stallTimeout: number
    /** Whether open streams keep only their socket. */
    readonly lean: boolean
  }
  /** What was delivered to all streams. */
  readonly traffic: { deliveries: number; bytes: number }
  readonly members: {
    join(stream: Stream, channels: readonly string[]): void
    leave(stream: Stream, channels: readonly string[]): void
    readonly connections: Connections
  }
  /** The stream has missed something. With `resume: false` its client gets no gap event. */
  streamMissed(stream: Stream, reason: GapReason): void
  /** The stream has closed. Called once, whatever the cause. */
  streamClosed(stream: Stream, reason: CloseReason): void
}

/** What all streams of one route have in common. */
export interface StreamRoute {
  readonly closeEvent: string
  readonly resume: boolean
  /** The first bytes, a comment. */
  readonly hello: Chunk
  /** A heartbeat of the route's own, instead of the pool's. */
  readonly ping?: Chunk | undefined
  /** A whole frame in place of the close event. */
  readonly done?: string | undefined
}

/** What the middleware knows of a new stream. */
export interface StreamRequest {
  readonly id: string
  readonly clientTarget: Target
  readonly res: AnyResponse
  readonly route: StreamRoute
  readonly lastEventId: string
  /** Opens the response soon, if the handler is still running then. */
  readonly opening: { soon(): void }
}

export interface CloseOptions {
  /** The data lines of the close event. Default: empty data. */
  readonly data?: string
  /** A whole frame in place of the close event. */
  readonly frame?: string
  /** The client's reconnect delay, in milliseconds. */
  readonly retry?: number
  /** The close event waits for the entries up to this position. Default: what was sent so far. */
  readonly after?: number
}

/** Leads from an outlet back to its stream, without a closure for each. */
const STREAM = Symbol('koa-sse-pool.stream')

type WatchedOutlet = Outlet & { [STREAM]?: Stream | undefined }

/** Bytes of direct sends that may wait before `send` returns false. */
const HIGH_WATER = 64 * 1024

export class Stream extends Reader {
  readonly id: string
  readonly clientTarget: Target
  /** The TCP connection or HTTP/2 session that carries it. */
  readonly connection: object
  /** What the app holds. */
  face!: EventStream
  readonly #host: StreamHost
  readonly #route: StreamRoute
  #outlet!: WatchedOutlet
  #transport: Transport<Outlet>
  #isOpened = false
  #isBlocked = false
  #watchesStalls = false
  /** Bytes written since {@link Connections} watches it, if it does. */
  #watchedBytes: number | undefined
  #isEnding = false
  /** The app has sent ids of its own, which a cursor must not overwrite. */
  #hidesCursor = false
  #needsCursor = true
  #isActive = false
  #reason: CloseReason | undefined
  /** Direct sends that wait, if any do. */
  #direct: DirectSends | undefined
  #drainWaiters: ((isOpen: boolean) => void)[] | undefined
  #closeListeners: ((reason: CloseReason) => void)[] | undefined
  #opening: { soon(): void } | undefined
  /** Set if its client gets everything compressed. */
  #gzip: GzipStream | undefined

  constructor(
    { id, clientTarget, res, route, lastEventId, opening }: StreamRequest,
    host: StreamHost,
  ) {
    super(lastEventId)
    this.id = id
    this.clientTarget = clientTarget
    this.#host = host
    this.#route = route
    this.#transport = transportOf(res)
    this.#opening = opening
    this.connection = connectionOf(res)
    this.#watch(res)
    // A pipelined response has no socket yet, and would not notice that its client left.
    if (res.socket === null) {
      const { socket } = res.req
      // Node would warn of a leak at the eleventh; `maxStreamsPerConnection` limits them.
      socket.setMaxListeners(socket.getMaxListeners() + 1)
      socket.once('close', () => this.close('client'))
    }
    this.#transport.onceAborted?.(res, () => this.close('client'))
    const session = this.#transport.session?.(res)
    if (session) host.members.connections.addSession(session)
  }

  get isOpen(): boolean {
    return this.#isOpened && this.#reason === undefined
  }

  get isClosed(): boolean {
    return this.#reason !== undefined
  }

  /** Whether nothing more can be sent: it has closed, or will close once earlier sends are written. */
  get isEnding(): boolean {
    return this.#isEnding
  }

  /** Whether it is behind because its socket is full. */
  get isBlocked(): boolean {
    return this.#isBlocked
  }

  get transport(): TransportName {
    return this.#transport.name
  }

  get isLean(): boolean {
    return this.#transport === lean
  }

  /** Whether entries carry their ids. */
  get withIds(): boolean {
    return this.#route.resume && !this.#hidesCursor
  }

  /**
   * Whether its client waits for a cursor: a new one because it has no id to resume from yet, one that has
   * resumed because the cursor says that it has got everything it missed.
   */
  get needsCursor(): boolean {
    return this.#needsCursor
  }

  get ping(): Chunk | undefined {
    return this.#route.ping
  }

  get encoding(): EncodeOptions {
    return this.#host.options
  }

  get server(): Server | undefined {
    return this.#transport.server(this.#outlet)
  }

  get channels(): string[] {
    const joined = this.targets.filter(target => !this.leftAt?.has(target))
    const names = joined.map(({ name }) => name).filter(name => name.startsWith('#'))
    return names.map(name => name.slice(1))
  }

  get bufferedBytes(): number {
    return this.#directBytes + (this.#isOpened ? this.unsentBytes : 0)
  }

  /** Bytes written that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#transport.bufferedBytes(this.#outlet)
  }

  get takenBytes(): number {
    return (this.#watchedBytes ?? 0) - this.unsentBytes
  }

  // As a reader

  override get directAfter(): number | undefined {
    const direct = this.#direct
    if (direct === undefined) return undefined
    // What is sent to it follows the pages that it has read, whatever the window holds.
    if (this.hasPages) return 0
    // After a close event its client would not come back for what the log has not shown yet.
    const waitsForLog = this.isParked && direct.isSingle && this.#hasCloseEvent
    return waitsForLog ? Number.POSITIVE_INFINITY : direct.after
  }

  /** Whether a close event waits to be sent. */
  get #hasCloseEvent(): boolean {
    const closes = this.#direct?.closes
    return closes !== undefined && ENDINGS[closes] === 'close event'
  }

  protected override unparked(): void {
    // When it was parked, the window lacked what comes before the close event.
    if (this.#hasCloseEvent) this.#direct?.renumber(this.#host.window.tail)
  }

  /** A blocked stream may take more while its socket holds no more than the allowance. */
  canTake(allowance: number): boolean {
    if (!this.isOpen) return false
    return !this.#isBlocked || this.#transport.bufferedBytes(this.#outlet) <= allowance
  }

  take(next: Batch | Gap | Page | LastPage): void {
    if (next instanceof Gap) this.#writeGap(next)
    else if (next instanceof Page) this.#writePage(next)
    else if (next instanceof LastPage) this.close('end', { data: next.data })
    else this.#writeBatch(next)
  }

  #writeBatch(next: Batch): void {
    const { slots, removal } = next
    if (slots.length > 0) {
      const { withIds } = this
      this.write(next.chunk(withIds))
      this.#isActive = true
      if (withIds && !this.hasResumed) this.#needsCursor = false
      const { traffic } = this.#host
      traffic.deliveries += slots.length
      traffic.bytes += next.bytes
    }
    if (removal !== undefined) this.close('removed', { data: removal.frame, after: next.position })
  }

  #writePage({ chunk, bytes, count, gap }: Page): void {
    this.write(chunk)
    this.#isActive = true
    const { traffic } = this.#host
    traffic.deliveries += count
    traffic.bytes += bytes
    if (gap !== undefined) this.#host.streamMissed(this, gap)
  }

  override takeDirect(): void {
    const waiting = this.#direct as DirectSends
    const direct = waiting.shift()
    if (waiting.after === undefined) this.#direct = undefined
    if (direct.bytes > 0) this.write(new Chunk(direct.text))
    // A stream with ids still needs a heartbeat, which carries the cursor.
    if (!this.withIds) this.#isActive = true
    if (!this.#isFull) this.#settleDrainWaiters()
    if (direct.closes !== undefined) this.#end(direct.closes)
  }

  wake(): void {
    this.#host.pump.advance(this)
  }

  override moveToPlace(place: Place, window: Window, reason: GapReason): void {
    super.moveToPlace(place, window, reason)
    this.#direct?.renumber(window.tail)
  }

  // Opening

  /** Sends the headers, which say whether the body is compressed, and the first bytes. The pump delivers the rest. */
  open(headers: Record<string, string>, retry: number | undefined): void {
    if (this.#isOpened || this.#reason !== undefined) return
    this.#isOpened = true
    this.#opening = undefined
    const { hello } = this.#route
    const first = retry === undefined ? hello : withRetry(hello, retry)
    if ('Content-Encoding' in headers) this.#gzip = new GzipStream()
    this.#transport.open(this.#outlet, headers, this.#gzip?.begin(first.gzip) ?? first)
  }

  /** Opens the response soon, even if nothing has been sent yet. */
  openSoon(): void {
    this.#opening?.soon()
    this.#opening = undefined
  }

  /** Koa does not need request and response any more: if the pool is lean, keeps only the socket. */
  handedOver(): void {
    // Not at the opening: a handler that is still running may read the body later.
    if (this.isOpen) this.#transport.discardBody(this.#outlet)
    // Not now: Koa's own call has not returned, and Node may still be parsing the rest of the request.
    if (this.#host.options.lean) setImmediate(detach, this)
  }

  /** Continues on the bare socket, if it can be detached. */
  detach(): void {
    if (!this.isOpen || this.#isBlocked) return
    const res = this.#outlet
    const socket = this.#transport.detach?.(res)
    if (socket === undefined) return
    // The response is about to emit `close`, although the stream stays open.
    res[STREAM] = undefined
    this.#transport = lean as Transport<Outlet>
    this.#watchesStalls = false
    this.#watch(socket)
  }

  // Sending

  /** Sends a frame as it is, after the entries that were sent before it. Returns what `send` returns. */
  sendFrame(frame: string): boolean {
    return !this.#isEnding && this.#push(frame)
  }

  /** From now on entries and heartbeats carry no ids, because the app sends ids of its own. */
  hideCursor(): void {
    this.#hidesCursor = true
  }

  write(chunk: Chunk): void {
    const payload = this.#gzip?.next(chunk.gzip) ?? chunk
    const hasRoom = this.#transport.write(this.#outlet, payload)
    if (this.#watchedBytes !== undefined) this.#watchedBytes += payload.size
    // Node also returns false when the kernel took everything; wait only if something is left.
    if (this.unsentBytes === 0) return
    if (!hasRoom) {
      this.#block()
    } else if (this.#watchedBytes === undefined && this.#transport.isSending(this.#outlet)) {
      this.#watchedBytes = 0
      this.#host.members.connections.watch(this)
    }
  }

  /** Writes the tail's id, from which the client can resume. */
  writeCursor(chunk: Chunk): void {
    this.write(chunk)
    this.#needsCursor = false
  }

  /** Whether entries were written since the last call, so that no heartbeat is needed. */
  clearActivity(): boolean {
    const wasActive = this.#isActive
    this.#isActive = false
    return wasActive
  }

  async drained(): Promise<boolean> {
    if (this.#isEnding) return false
    if (!this.#isFull) return true
    return new Promise(resolve => {
      this.#drainWaiters ??= []
      this.#drainWaiters.push(resolve)
    })
  }

  joinChannels(channels: readonly string[]): void {
    if (!this.#isEnding) this.#host.members.join(this, channels)
  }

  leaveChannels(channels: readonly string[]): void {
    if (!this.#isEnding) this.#host.members.leave(this, channels)
  }

  // Closing

  /** Ends the stream in the way that {@link ENDINGS} lists for the reason. */
  close(reason: CloseReason, options: CloseOptions = {}): void {
    if (this.#reason !== undefined) return
    // Only the end of the run itself comes after all pages, and then there are none left.
    this.closePages()
    const ending = this.#route.done === undefined ? ENDINGS[reason] : DONE_ENDINGS[reason]
    if (ending === 'close event') this.#endWithEvent(reason, options)
    else if (ending === 'quiet end') this.#endQuietly(reason, options)
    else if (ending === 'immediate end') this.#endNow(reason)
    else if (ending === 'cut') this.#abort(reason, this.#isOpened ? 'cut' : undefined)
    else if (ending === 'destroy') this.#abort(reason, 'destroy')
    else this.release(reason)
  }

  /** Closes without writing to the response: something else answers, or the client has left. */
  release(reason: CloseReason): void {
    if (this.#reason !== undefined) return
    this.#leave(reason)
    this.#host.members.connections.forget(this)
  }

  #leave(reason: CloseReason): void {
    this.#reason = reason
    this.#isEnding = true
    this.#direct = undefined
    this.#opening = undefined
    this.#outlet[STREAM] = undefined
    this.#host.streamClosed(this, reason)
    this.#settleDrainWaiters()
    for (const listener of this.#closeListeners ?? []) listener(reason)
    this.#closeListeners = undefined
  }

  /** Calls the listener when the stream closes, at once if it has already. */
  onceClosed(listener: (reason: CloseReason) => void): void {
    if (this.#reason !== undefined) {
      listener(this.#reason)
      return
    }
    this.#closeListeners ??= []
    this.#closeListeners.push(listener)
  }

  #endWithEvent(reason: CloseReason, { data = NO_DATA, frame, after }: CloseOptions): void {
    // A client that was removed must not get the entries that direct sends would wait for.
    if (after !== undefined) this.#direct?.cap(after)
    if (this.#isEnding) {
      // It was told to end before and cannot: it would hold a place for each newcomer.
      const cannotEnd = this.#isBlocked || this.isParked
      if (reason === 'replaced' && cannotEnd) this.#abort(reason, 'destroy')
      else if (after !== undefined) this.wake()
      return
    }
    this.#push(frame ?? this.#lastFrame(data), after, reason)
  }

  #lastFrame(data: string): string {
    const { closeEvent, done } = this.#route
    if (done === undefined) return closeFrame(closeEvent, data)
    // Data alone is an event without a name.
    return data.trim() === NO_DATA.trim() ? done : data + done
  }

  #endQuietly(reason: CloseReason, { retry }: CloseOptions): void {
    const { tail } = this.#host.window
    const last = retry === undefined ? '' : retryFrame(retry)
    // Without waiting for sends that are still in flight: a client that comes back gets those.
    this.#direct?.cap(tail)
    if (this.#isEnding) {
      // The log may never say what has to come before the close event. The client comes back for it.
      if (this.isParked && this.#hasCloseEvent) this.#direct?.closeWith(last, reason)
      this.wake()
    }
    // After what the app has just sent, which TLS and HTTP/2 never take in the same turn.
    else this.#push(last, tail, reason)
  }

  #endNow(reason: CloseReason): void {
    if (this.#isBlocked) {
      // A clean end would wait behind what the client does not read.
      this.#abort(reason, 'destroy')
      return
    }
    if (this.#isOpened) {
      this.#end(reason)
    } else if (this.#isEnding) {
      // A close event would wait for the pending events, and for as long as the log is out of reach.
      this.#direct?.closeWith('', reason)
      this.#direct?.cap(0)
    } else {
      this.#push('', 0, reason)
    }
  }

  /** Ends the response cleanly. */
  #end(reason: CloseReason): void {
    const outlet = this.#outlet
    const { connections } = this.#host.members
    if (this.#gzip !== undefined) this.#transport.write(outlet, this.#gzip.end())
    this.#transport.end(outlet, reason === 'drain')
    // A pipelined response waits for those before it, which may take any time.
    if ((outlet as AnyResponse).socket === null) {
      this.release(reason)
      return
    }
    connections.end(this)
    // `close` alone would not do: without a server there is only `finish`.
    for (const event of ['finish', 'close']) outlet.once(event, () => connections.forget(this))
    this.#leave(reason)
  }

  unwatched(): void {
    this.#watchedBytes = undefined
  }

  stalled(): void {
    if (this.#reason === undefined) this.close('slow')
    else this.giveUp()
  }

  giveUp(): void {
    if (this.#reason === undefined) this.#abort('drain', 'destroy')
    else this.#transport.destroy(this.#outlet)
  }

  #abort(reason: CloseReason, method: 'cut' | 'destroy' | undefined): void {
    this.release(reason)
    if (method !== undefined) this.#transport[method](this.#outlet)
  }

  #writeGap({ reason, id }: Gap): void {
    if (this.#route.resume) {
      const shown = this.withIds ? id : undefined
      this.write(gapFrame(reason, shown))
      if (shown !== undefined) this.#needsCursor = false
    }
    // Last, because a listener that sends calls this stream again.
    this.#host.streamMissed(this, reason)
  }

  #watch(outlet: Outlet): void {
    this.#outlet = outlet
    this.#outlet[STREAM] = this
    this.#outlet.on('close', onOutletClose)
  }

  get #directBytes(): number {
    return this.#direct?.bytes ?? 0
  }

  get #isFull(): boolean {
    return this.#isBlocked || this.#directBytes >= HIGH_WATER
  }

  /** @param after the position that it waits for. Default: what this process has sent so far. */
  #push(text: string, after?: number, closes?: CloseReason): boolean {
    if (closes !== undefined) this.#isEnding = true
    this.#direct ??= new DirectSends()
    const { window, inFlight } = this.#host
    const waits = after === undefined && inFlight.isAwaited(this.targets)
    const round = waits ? inFlight.begun : 0
    const predecessors = { position: after ?? window.end, round }
    const send = this.#direct.push(text, predecessors, closes, () => this.wake())
    if (waits && send !== undefined) send.pending = inFlight.waitFor(this.targets, send)
    // A listener has sent in the middle of an append: entries that this waits for are put in next.
    if (predecessors.position > window.tail) setImmediate(() => this.wake())
    if (this.#isOpened) {
      this.#host.pump.advance(this)
    } else {
      this.openSoon()
    }
    // The socket does not count: it may hold entries, which are limited by the size of a batch.
    if (this.#directBytes > this.#host.options.maxBufferedBytes) this.#overflow()
    return !this.#isEnding && !this.#isFull
  }

  /** A client that does not read is closed; one that waits for an engine gets what waits, out of order. */
  #overflow(): void {
    if (this.directAfter === Number.POSITIVE_INFINITY && this.#isOpened) {
      this.#direct?.cap(this.#host.window.tail)
      this.#host.pump.advance(this)
    }
    if (this.#directBytes > this.#host.options.maxBufferedBytes) this.close('slow')
  }

  #block(): void {
    if (this.#isBlocked) return
    this.#isBlocked = true
    if (!this.#watchesStalls) {
      this.#watchesStalls = true
      this.#outlet.on('timeout', onOutletTimeout)
    }
    // Node's own timer runs only while the kernel takes nothing at all from us.
    this.#transport.setTimeout(this.#outlet, this.#host.options.stallTimeout)
    this.#transport.onceDrained(this.#outlet, () => {
      this.#isBlocked = false
      this.#transport.setTimeout(this.#outlet, 0)
      if (this.#reason !== undefined) return
      this.#host.pump.advance(this)
      if (!this.#isFull) this.#settleDrainWaiters()
    })
  }

  #settleDrainWaiters(): void {
    const waiters = this.#drainWaiters
    this.#drainWaiters = undefined
    for (const resolve of waiters ?? []) resolve(!this.#isEnding)
  }
}

function onOutletClose(this: WatchedOutlet): void {
  this[STREAM]?.close('client')
}

function onOutletTimeout(this: WatchedOutlet): void {
  const stream = this[STREAM]
  if (stream !== undefined) stream.close('slow')
  // The stream has ended, but the client does not read the rest: the open connection would hold up
  // `server.close()`.
  else this.destroy()
}

function detach(stream: Stream): void {
  stream.detach()
}
