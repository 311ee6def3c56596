/**
 * All clients: who is connected, by id, and how to push to one, to a channel or to everyone.
 *
 * The pool puts the parts together. The path of one event: `send` encodes it and appends it to the
 * log; the log gives it an id and hands it to the feed; the feed puts it into the window, in the list
 * of its target; the target waits in the pump until the end of the tick; then each of its members
 * gets what lies between its cursor and the tail. See docs/architecture.md.
 */

import { Feed } from '../delivery/feed.js'
import { Pump } from '../delivery/pump.js'
import { type Resumable, Resumption } from '../delivery/resume.js'
import { Window } from '../delivery/window.js'
import { type CloseReason, didYouMean, got, SseError } from '../lib/errors.js'
import { channelName, clientIdOf } from '../lib/names.js'
import { nonceSource } from '../lib/random.js'
import { type Entry, type EventLog, formatTarget, type TargetAddress } from '../log/log.js'
import { MemoryLog } from '../log/memory.js'
import { MESSAGE, Messages } from '../log/messages.js'
import { EventStream, type GapReason, type StreamHost, type StreamRoute } from '../stream/stream.js'
import type { AnyResponse } from '../stream/transport/transport.js'
import { type EventMap, encodeData, encodePoolEvent, type PoolEvent } from '../wire/event.js'
import { Channel } from './channel.js'
import { Claims, checkClaim } from './claims.js'
import type { Client, Sender, SendOptions } from './client.js'
import { dismissToReturn, drain } from './drain.js'
import { PoolEmitter, type PoolEvents } from './emitter.js'
import { Heartbeat } from './heartbeat.js'
import { Members } from './members.js'
import { type PoolOptions, type ResolvedPoolOptions, resolvePoolOptions } from './options.js'
import { type Location, type PoolCount, Presence } from './presence.js'
import { Counts, type PoolStats, type Refusal } from './stats.js'
import {
  checkEvents,
  type EventsOptions,
  type EventTargets,
  type PoolEntry,
  readAll,
  Tap,
} from './subscription.js'

/** @internal What the middleware brings for a new stream. */
export interface Admission {
  readonly id: string
  readonly res: AnyResponse
  readonly route: StreamRoute
  readonly replay: 'missed' | 'latest' | 'all'
  readonly channels: readonly string[]
  readonly lastEventId: string
  readonly opening: { soon(): void }
}

export class ClientPool<Events extends object = EventMap> {
  readonly #options: ResolvedPoolOptions<Events>
  readonly #log: EventLog
  readonly #window: Window
  readonly #pump: Pump
  readonly #resumption: Resumption
  readonly #heartbeat: Heartbeat
  readonly #emitter = new PoolEmitter<Events>()
  readonly #members: Members<Events>
  readonly #taps = new Set<Tap>()
  readonly #host: StreamHost
  readonly #sender: Sender<Events>
  readonly #nonce = nonceSource()
  readonly #feed: Feed
  readonly #presence: Presence
  readonly #claims: Claims
  /** Streams that came before the window was filled, to be started then. */
  readonly #onBoot = new Map<Resumable, () => void>()
  #closing: Promise<void> | undefined
  #isClosed = false
  readonly #counts = new Counts()

  /** @throws TypeError that names the option, when one is unknown or wrong. */
  constructor(options: PoolOptions<Events> = {}) {
    this.#options = resolvePoolOptions(options)
    this.#log = this.#options.log ?? new MemoryLog()
    this.#window = new Window({
      ...this.#options.window,
      compare: (a, b) => this.#log.compare(a, b),
      onAppend: target => this.#pump.schedule(target),
      onEvict: target => this.#feed.isRenewing || this.#pump.flushIfPending(target),
    })
    this.#pump = new Pump({
      window: this.#window,
      allowance: this.#options.maxBufferedBytes / 2,
      onGap: (stream, reason) => this.#onGap(stream, reason),
    })
    const advance = (stream: EventStream) => this.#pump.advance(stream)
    const onError = (error: unknown) => this.#emitter.error(error)
    this.#sender = {
      send: (id, event) => this.send(id, event),
      remove: (id, data) => this.remove(id, data),
      sendToChannel: (name, event, options) =>
        this.#publish({ kind: 'channel', name, except: exceptOf(options) }, event),
    }
    this.#members = new Members<Events>({
      ...this.#options,
      window: this.#window,
      sender: this.#sender,
      advance,
    })
    this.#resumption = new Resumption({
      window: this.#window,
      log: this.#log,
      onResumed: () => {
        this.#counts.replays += 1
      },
      onError,
    })
    this.#heartbeat = new Heartbeat({
      window: this.#window,
      streams: () => this.#members.streams(),
      pingInterval: this.#options.pingInterval,
      heartbeat: this.#options.heartbeat,
      authorize: this.#options.authorize as ((stream: EventStream) => boolean) | undefined,
      advance,
      onServerClosed: dismissToReturn,
      onBeat: () => this.#resumption.retry(),
      onError,
    })
    this.#host = {
      encode: this.#options,
      maxBufferedBytes: this.#options.maxBufferedBytes,
      stallTimeout: this.#options.stallTimeout,
      lean: this.#options.lean,
      tail: () => this.#window.tail,
      advance,
      join: (stream, channels) => this.#members.join(stream, channels),
      leave: (stream, channels) => this.#members.leave(stream, channels),
      closed: (stream, reason) => this.#onClosed(stream, reason),
    }
    const messages = new Messages(
      // The memory log is this process's own.
      this.#options.log &&
        (frame => this.#log.append({ nonce: this.#nonce(), target: MESSAGE, frame })),
    )
    this.#presence = new Presence({
      messages,
      count: id => this.#countHere(id),
      nonce: this.#nonce,
    })
    this.#claims = new Claims({ messages, nonce: this.#nonce })
    this.#feed = new Feed({
      window: this.#window,
      resumption: this.#resumption,
      messages,
      readers: () => [...this.#members.streams(), ...this.#taps],
      onBoot: () => this.#boot(),
      onError,
    })
    this.#log.open(this.#feed).catch(error => {
      this.#feed.state(false)
      this.#emitter.error(error)
    })
  }

  /** Clients that are connected to this process. */
  get size(): number {
    return this.#members.clients.size
  }

  /** Open streams on this process; a client with two tabs has two. */
  get connections(): number {
    return this.#members.size
  }

  has(id: string | number): boolean {
    return this.#members.clients.has(String(id))
  }

  /** The client, if it is connected to this process. */
  get(id: string | number): Client<Events> | undefined {
    return this.#members.clients.get(String(id))
  }

  keys(): IterableIterator<string> {
    return this.#members.clients.keys()
  }

  values(): IterableIterator<Client<Events>> {
    return this.#members.clients.values()
  }

  entries(): IterableIterator<[string, Client<Events>]> {
    return this.#members.clients.entries()
  }

  [Symbol.iterator](): IterableIterator<[string, Client<Events>]> {
    return this.#members.clients.entries()
  }

  forEach(callback: (client: Client<Events>, id: string, pool: this) => void): void {
    for (const [id, client] of this.#members.clients) callback(client, id, this)
  }

  /**
   * Sends an event to all streams of a client. Resolves to the entry's id once the log has stored it,
   * whether or not the client is connected: if it resumes, it gets what it missed.
   *
   * @throws TypeError at once, when the id or the event is wrong; the message names the field.
   * @throws SseError at once, `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * Rejects with an SseError when the log does not store it (`ERR_SSE_LOG_DOWN`,
   * `ERR_SSE_LOG_UNCERTAIN`) or the pool is closed (`ERR_SSE_POOL_CLOSED`). The rejection is also
   * the pool's `error` event, and never ends the process when nobody awaits it.
   */
  send(id: string | number, event: PoolEvent<Events>): Promise<string> {
    return this.#publish({ kind: 'client', name: clientIdOf(id) }, event)
  }

  /** Sends an event to every stream; see {@link send}. `except` is the id of a client to leave out. */
  broadcast(event: PoolEvent<Events>, options?: SendOptions): Promise<string> {
    return this.#publish({ kind: 'everyone', name: '', except: exceptOf(options) }, event)
  }

  /**
   * A channel by name, to `send` to all who have joined it.
   * @throws TypeError for an empty name, or one with control or invisible characters.
   */
  channel(name: string): Channel<Events> {
    return new Channel(channelName(name), this.#sender)
  }

  /**
   * Ends all streams of a client with the close event, so that its pages stay away. It goes through
   * the log: a page that is just reconnecting meets it in its replay and is ended too, while the
   * same id may come anew without a cursor. Resolves and rejects as {@link send}.
   * @param data the data of the close event; empty by default.
   */
  remove(id: string | number, data?: unknown): Promise<string> {
    const frame = encodeData(data, this.#options)
    return this.#append({ kind: 'remove', name: clientIdOf(id) }, frame)
  }

  /**
   * On which processes a client is connected. Asks all processes through the log, for dashboards and
   * not for each request: a question is an entry, and so is each answer. One that has died in
   * silence costs the next question a second. Rejects as {@link send}.
   * @throws TypeError for what cannot be an id.
   */
  locate(id: string | number): Promise<Location[]> {
    return this.#presence.locate(clientIdOf(id))
  }

  /** How many are connected on all processes together; asks as {@link locate} does. */
  count(): Promise<PoolCount> {
    return this.#presence.count()
  }

  /**
   * Claims a name for `ttl` milliseconds: resolves to `true` for the one that was first among all
   * processes that share the log, and to `false` for the others until that time is over. For what
   * must happen once, such as redeeming a ticket or a job that every process would start.
   *
   * It is an entry in the log. A process that starts learns what is claimed from what the log still
   * holds; with the memory log it knows of nothing before its start.
   *
   * @throws TypeError for a wrong name or `ttl`.
   * Rejects as {@link send}, and with `ERR_SSE_LOG_UNCERTAIN` when the claim does not come back by the
   * log: then nobody may have the name until the time is over, but never two.
   */
  claim(name: string, options: { ttl: number }): Promise<boolean> {
    checkNames(options, ['ttl'])
    checkClaim(name, options?.ttl)
    const claimed = this.#isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing is claimed'),
        )
      : this.#claims.claim(name, options.ttl)
    claimed.catch(error => this.#emitter.error(error))
    return claimed
  }

  /** Whether a load balancer should send streams here: the log is in reach, and nothing is closing. */
  get isReady(): boolean {
    return this.#feed.isBooted && this.#feed.isUp && this.#closing === undefined
  }

  stats(): PoolStats {
    const streams = [...this.#members.streams()]
    return {
      clients: this.size,
      streams: this.connections,
      lean: streams.filter(stream => stream.isLean).length,
      polls: this.#taps.size,
      channels: this.#members.channels,
      lagging: this.#pump.hungry + streams.filter(stream => stream.isBlocked).length,
      parked: streams.filter(stream => stream.parked).length,
      opened: this.#counts.opened,
      closed: { ...this.#counts.closed },
      refused: { ...this.#counts.refused },
      entries: this.#feed.entries,
      ...this.#pump.counts,
      replays: this.#counts.replays,
      gaps: this.#counts.gaps,
      window: this.#window.size,
      log: this.#feed.isUp ? 'up' : 'down',
    }
  }

  /**
   * Drains: new streams are refused, open ones are ended within `spread` milliseconds (default 0),
   * each told to come back after a random time, then the log is closed. Comes before
   * `server.close()`, which waits for open streams. A second call returns the first one's promise.
   * @throws TypeError when `spread` is no number of at least 0.
   */
  close({ spread = 0 }: { spread?: number } = {}): Promise<void> {
    if (!Number.isFinite(spread) || spread < 0) {
      throw new TypeError(`close(): spread must be milliseconds of at least 0; got ${got(spread)}`)
    }
    this.#closing ??= this.#drain(spread)
    return this.#closing
  }

  on<Name extends keyof PoolEvents>(
    event: Name,
    listener: (...args: PoolEvents<Events>[Name]) => void,
  ): this {
    this.#emitter.on(event, listener)
    return this
  }

  once<Name extends keyof PoolEvents>(
    event: Name,
    listener: (...args: PoolEvents<Events>[Name]) => void,
  ): this {
    this.#emitter.once(event, listener)
    return this
  }

  off<Name extends keyof PoolEvents>(
    event: Name,
    listener: (...args: PoolEvents<Events>[Name]) => void,
  ): this {
    this.#emitter.off(event, listener)
    return this
  }

  /**
   * The entries for a client and for channels, and broadcasts, as an async iterable: to bridge them to
   * a WebSocket, or for a job that follows a channel. It has a cursor of its own, so a reader that is
   * slow costs no memory, and gets an `sse.gap` entry when it has missed something.
   *
   * Ends when the client is removed, when the pool closes and when `signal` aborts.
   * @throws TypeError for a wrong id, name or option.
   */
  events(targets: EventTargets = {}, options: EventsOptions = {}): AsyncGenerator<PoolEntry> {
    const { since, replay, signal } = checkEvents(targets, options)
    return readAll(this.tap(targets, since, replay), signal)
  }

  // What follows is for the middleware.

  /** @internal A reader without a stream. It is to be closed by whoever asked for it. */
  tap(
    { id, channels = [], everyone = true }: EventTargets,
    since: string,
    replay: Admission['replay'],
  ): Tap {
    const own = id === undefined ? undefined : clientIdOf(id)
    // First, as a wrong name throws, and a target that was made before would stay.
    const channelTargets = this.#members.channelTargets(channels)
    const clientTarget = own === undefined ? undefined : this.#members.targetOf(own)
    const tap = new Tap({
      window: this.#window,
      id: own ?? '',
      targets: [
        ...(everyone ? [this.#window.everyone] : []),
        ...(clientTarget === undefined ? [] : [clientTarget]),
        ...channelTargets,
      ],
      clientTarget,
      since,
      onGap: () => {
        this.#counts.gaps += 1
      },
      onClose: () => {
        this.#taps.delete(tap)
        this.#forget(tap)
      },
    })
    this.#taps.add(tap)
    if (this.#isClosed) tap.close()
    else this.#start(tap, true, replay)
    return tap
  }

  /** @internal Why a new stream cannot be admitted, if so; before its id is known, why none can. */
  refusal(id?: string): Refusal | undefined {
    return this.#closing ? 'draining' : this.#members.refusal(id)
  }

  /** @internal */
  countRefusal(refusal: Refusal): void {
    this.#counts.refused[refusal] += 1
  }

  /** @internal Makes the stream a member of its targets and decides where it starts. */
  admit(admission: Admission): EventStream<Events> {
    const { id, res, route, lastEventId } = admission
    const client = this.#members.client(id)
    const stream = new EventStream<Events>(
      client,
      res,
      route,
      this.#host,
      lastEventId,
      admission.opening,
    )
    this.#members.add(stream as EventStream, admission.channels)
    this.#counts.opened += 1
    this.#start(stream as EventStream, route.resume, admission.replay)
    // Last, as the client would leave the pool with its only stream.
    this.#members.replaceOldest(client)
    this.#emitter.emit('open', stream)
    return stream
  }

  /** @internal The stream's response goes out now. */
  open(
    stream: EventStream<Events>,
    headers: Record<string, string>,
    retry: number | undefined,
  ): void {
    if (stream.isOpen || stream.isClosed) return
    stream.open(headers, retry)
    this.#heartbeat.watch(stream as EventStream)
    this.#pump.advance(stream as EventStream)
    this.#greet(stream as EventStream)
  }

  /** Without a cursor it would, if cut off before the first event, come back as if it were new. */
  #greet(stream: EventStream): void {
    if (stream.isOpen && !stream.hasCursor && stream.withIds) this.#heartbeat.greet(stream)
  }

  /** Decides where it begins, as soon as the log has filled the window. */
  #start(reader: Resumable, resumes: boolean, replay: Admission['replay']): void {
    if (!this.#feed.isBooted) {
      reader.parked = true
      this.#onBoot.set(reader, () => this.#start(reader, resumes, replay))
      return
    }
    const { tail, start } = this.#window
    reader.parked = false
    // One that the log held already when it came is history to it.
    reader.removal = undefined
    reader.openedAt = tail
    reader.cursor = replay === 'missed' ? tail : start
    reader.latestOnly = replay === 'latest'
    // Channels that it joined when there was no tail yet.
    for (const target of reader.joinedAt?.keys() ?? []) reader.joinedAt?.set(target, tail)
    if (resumes && reader.lastEventId !== '') {
      reader.openedAt = 0
      reader.latestOnly = false
      this.#resumption.resume(reader)
    }
  }

  #onClosed(stream: EventStream, reason: CloseReason): void {
    this.#pump.forget(stream)
    this.#forget(stream)
    this.#members.remove(stream)
    this.#counts.closed[reason] += 1
    this.#emitter.emit('close', stream as EventStream<Events>, reason)
  }

  /** It has closed: nobody waits any more for where it goes on. */
  #forget(reader: Resumable): void {
    this.#onBoot.delete(reader)
    this.#resumption.forget(reader)
  }

  #onGap(stream: EventStream, reason: GapReason): void {
    this.#counts.gaps += 1
    this.#emitter.emit('gap', stream as EventStream<Events>, reason)
  }

  #publish(address: TargetAddress, event: PoolEvent<Events>): Promise<string> {
    const frame = encodePoolEvent(event, this.#options)
    const key = typeof event === 'object' ? event.key : undefined
    return this.#append(address, frame, key)
  }

  #append(address: TargetAddress, frame: string, key?: string): Promise<string> {
    const target = formatTarget(address)
    const nonce = this.#nonce()
    return this.#store(key === undefined ? { nonce, target, frame } : { nonce, target, frame, key })
  }

  #store(entry: Omit<Entry, 'id'>): Promise<string> {
    const stored = this.#isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing can be sent'),
        )
      : this.#log.append(entry)
    // Also marks the rejection as handled, so that a send that nobody awaits cannot end the process.
    stored.catch(error => {
      if (error instanceof SseError && error.code === 'ERR_SSE_LOG_UNCERTAIN') {
        error.retry = () => this.#store(entry)
      }
      this.#emitter.error(error)
    })
    return stored
  }

  #countHere(id: string | undefined): { clients: number; streams: number } {
    if (id === undefined) return { clients: this.size, streams: this.connections }
    const streams = this.#members.clients.get(id)?.target.size ?? 0
    return { clients: Math.min(streams, 1), streams }
  }

  /** The window is filled: streams that came before can start. */
  #boot(): void {
    for (const start of this.#onBoot.values()) start()
    this.#onBoot.clear()
    for (const tap of this.#taps) tap.wake()
    for (const stream of this.#members.streams()) {
      this.#pump.advance(stream)
      if (!stream.parked) this.#greet(stream)
    }
    void this.#presence.enter()
  }

  async #drain(spread: number): Promise<void> {
    await drain(this.#members.everyone, spread)
    // Not before: until its stream is ended a client gets what is sent.
    this.#isClosed = true
    this.#claims.close()
    for (const tap of this.#taps) tap.close()
    this.#heartbeat.stop()
    // Last: whoever answers questions after that would be waited for again.
    await this.#presence.leave()
    await this.#log.close()
  }
}

function exceptOf(options: SendOptions | undefined): string | undefined {
  checkNames(options, ['except'])
  return options?.except === undefined ? undefined : clientIdOf(options.except)
}

function checkNames(options: object | undefined, known: readonly string[]): void {
  for (const name in options) {
    if (!known.includes(name)) {
      throw new TypeError(`Unknown option "${name}"${didYouMean(name, known)}`)
    }
  }
}
