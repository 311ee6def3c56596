/**
 * All clients: who is connected, by id, and how to push to one, to a channel or to everyone.
 *
 * The pool puts the parts together. The path of one event: `send` encodes it and appends it to the
 * log; the log gives it an id and hands it to the sink; the sink puts it into the window, in the list
 * of its target; the target waits in the pump until the end of the tick; then each of its members
 * gets what lies between its cursor and the tail. See docs/architecture.md.
 */
import { Channel } from './channel.js'
import { Client, type Sender, type SendOptions } from './client.js'
import { dismissToReturn, drain } from './drain.js'
import { PoolEmitter, type PoolEvents } from './emitter.js'
import { type CloseReason, got, SseError } from './errors.js'
import { type EventMap, encodeData, encodePoolEvent, type PoolEvent } from './event.js'
import { Heartbeat } from './heartbeat.js'
import { type EventLog, formatTarget, type LogSink, type TargetAddress } from './log/log.js'
import { MemoryLog } from './log/memory.js'
import { channelName, clientIdOf } from './names.js'
import { type PoolOptions, type ResolvedPoolOptions, resolvePoolOptions } from './options.js'
import { Pump } from './pump.js'
import { nonceSource } from './random.js'
import { Resumption } from './resume.js'
import { Counts, type PoolStats, type Refusal } from './stats.js'
import { EventStream, type GapReason, type StreamHost, type StreamRoute } from './stream.js'
import type { Target } from './target.js'
import type { AnyResponse } from './transport/transport.js'
import { Window } from './window.js'

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

const EVERYONE = formatTarget({ kind: 'everyone', name: '' })

export class ClientPool<Events extends object = EventMap> {
  readonly #options: ResolvedPoolOptions<Events>
  readonly #log: EventLog
  readonly #window: Window
  readonly #pump: Pump
  readonly #resumption: Resumption
  readonly #heartbeat: Heartbeat
  readonly #emitter = new PoolEmitter<Events>()
  readonly #clients = new Map<string, Client<Events>>()
  readonly #everyone: Target
  readonly #host: StreamHost
  readonly #sender: Sender<Events>
  readonly #nonce = nonceSource()
  #channels = 0
  #isUp = true
  /** Whether the log has filled the window; until then nobody's cursor can be decided. */
  #isBooted = false
  /** Streams that came before, to be started then. */
  readonly #onBoot: (() => void)[] = []
  /** While the window is filled anew nobody's cursor fits it yet. */
  #isRenewing = false
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
      onEvict: target => this.#isRenewing || this.#pump.flushIfPending(target),
    })
    this.#pump = new Pump({
      window: this.#window,
      allowance: this.#options.maxBufferedBytes / 2,
      onGap: (stream, reason) => this.#onGap(stream, reason),
    })
    this.#everyone = this.#window.target(EVERYONE)
    const advance = (stream: EventStream) => this.#pump.advance(stream)
    const onError = (error: unknown) => this.#emitter.error(error)
    this.#resumption = new Resumption({
      window: this.#window,
      log: this.#log,
      advance,
      onResumed: () => {
        this.#counts.replays += 1
      },
      onError,
    })
    this.#heartbeat = new Heartbeat({
      window: this.#window,
      streams: () => this.#streams(),
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
      join: (stream, channels) => this.#join(stream, channels),
      leave: (stream, channels) => this.#leave(stream, channels),
      closed: (stream, reason) => this.#onClosed(stream, reason),
    }
    this.#sender = {
      send: (id, event) => this.send(id, event),
      remove: (id, data) => this.remove(id, data),
      sendToChannel: (name, event, options) =>
        this.#publish({ kind: 'channel', name, except: exceptOf(options) }, event),
    }
    this.#log.open(this.#sink()).catch(error => {
      this.#isUp = false
      this.#emitter.error(error)
    })
  }

  /** Clients that are connected to this process. */
  get size(): number {
    return this.#clients.size
  }

  /** Open streams on this process; a client with two tabs has two. */
  get connections(): number {
    return this.#everyone.size
  }

  has(id: string | number): boolean {
    return this.#clients.has(String(id))
  }

  /** The client, if it is connected to this process. */
  get(id: string | number): Client<Events> | undefined {
    return this.#clients.get(String(id))
  }

  keys(): IterableIterator<string> {
    return this.#clients.keys()
  }

  values(): IterableIterator<Client<Events>> {
    return this.#clients.values()
  }

  entries(): IterableIterator<[string, Client<Events>]> {
    return this.#clients.entries()
  }

  [Symbol.iterator](): IterableIterator<[string, Client<Events>]> {
    return this.#clients.entries()
  }

  forEach(callback: (client: Client<Events>, id: string, pool: this) => void): void {
    for (const [id, client] of this.#clients) callback(client, id, this)
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

  stats(): PoolStats {
    const streams = [...this.#streams()]
    return {
      clients: this.size,
      streams: this.connections,
      lean: streams.filter(stream => stream.isLean).length,
      channels: this.#channels,
      lagging: this.#pump.hungry + streams.filter(stream => stream.isBlocked).length,
      parked: streams.filter(stream => stream.parked).length,
      opened: this.#counts.opened,
      closed: { ...this.#counts.closed },
      refused: { ...this.#counts.refused },
      entries: this.#counts.entries,
      ...this.#pump.counts,
      replays: this.#counts.replays,
      gaps: this.#counts.gaps,
      window: this.#window.size,
      log: this.#isUp ? 'up' : 'down',
    }
  }

  /**
   * Drains: new streams are refused, open ones are ended within `spread` milliseconds (default 0),
   * each told to come back after a random time, then the log is closed. Comes before
   * `server.close()`, which waits for open streams. A second call returns the first one's promise.
   * @throws TypeError when `spread` is no number of at least 0.
   */
  close({ spread = 0 }: { spread?: number } = {}): Promise<void> {
    if (typeof spread !== 'number' || !(spread >= 0)) {
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

  // What follows is for the middleware.

  /** @internal Why a new stream cannot be admitted, if so; before its id is known, why none can. */
  refusal(id?: string): Refusal | undefined {
    if (this.#closing) return 'draining'
    const { maxClients, maxStreamsPerClient, onDuplicate } = this.#options
    const own = id === undefined ? 0 : (this.#clients.get(id)?.target.size ?? 0)
    const isDuplicate = own >= maxStreamsPerClient
    if (isDuplicate && onDuplicate === 'reject') return 'duplicate'
    // One that takes another's place needs no room of its own; without an id any might be one.
    const mayReplace =
      id === undefined
        ? onDuplicate === 'replace' && maxStreamsPerClient !== Number.POSITIVE_INFINITY
        : isDuplicate
    if (this.connections >= maxClients && !mayReplace) return 'full'
    return undefined
  }

  /** @internal */
  countRefusal(refusal: Refusal): void {
    this.#counts.refused[refusal] += 1
  }

  /** @internal Makes the stream a member of its targets and decides where it starts. */
  admit(admission: Admission): EventStream<Events> {
    const { id, res, route, lastEventId } = admission
    const client = this.#clients.get(id) ?? this.#newClient(id)
    const stream = new EventStream<Events>(
      client,
      res,
      route,
      this.#host,
      lastEventId,
      admission.opening,
    )
    const channels = new Set(this.#targets(channelAddresses(admission.channels)))
    stream.targets = [this.#everyone, client.target, ...channels]
    for (const target of stream.targets) this.#addMember(stream as EventStream, target)
    this.#counts.opened += 1
    if (this.#isBooted) this.#start(stream as EventStream, admission.replay)
    else {
      stream.parked = true
      this.#onBoot.push(() => this.#start(stream as EventStream, admission.replay))
    }
    // Last, as the client would leave the pool with its only stream.
    this.#replaceOldest(client)
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
    this.#pump.advance(stream as EventStream)
    this.#greet(stream as EventStream)
  }

  /** Without a cursor it would, if cut off before the first event, come back as if it were new. */
  #greet(stream: EventStream): void {
    if (stream.isOpen && !stream.hasCursor && stream.withIds) this.#heartbeat.greet(stream)
  }

  #streams(): IterableIterator<EventStream> {
    return this.#everyone.members() as IterableIterator<unknown> as IterableIterator<EventStream>
  }

  #newClient(id: string): Client<Events> {
    const target = this.#window.target(formatTarget({ kind: 'client', name: id }))
    const client = new Client<Events>(id, target, this.#sender)
    this.#clients.set(id, client)
    return client
  }

  #replaceOldest(client: Client<Events>): void {
    const excess = client.target.size - this.#options.maxStreamsPerClient
    const oldest = [...client.streams].slice(0, Math.max(0, excess))
    for (const stream of oldest) {
      // Told before and still there: it does not read, and would hold a place for each newcomer.
      if (stream.isEnding) stream.destroy('replaced')
      else stream.finish('replaced', 'data:\n\n')
    }
  }

  #start(stream: EventStream, replay: Admission['replay']): void {
    if (stream.isClosed) return
    const { tail, start } = this.#window
    stream.parked = false
    // One that the log held already when it came is history to it.
    stream.removal = undefined
    stream.openedAt = tail
    stream.cursor = replay === 'missed' ? tail : start
    stream.latestOnly = replay === 'latest'
    if (stream.resumes && stream.lastEventId !== '') {
      stream.openedAt = 0
      stream.latestOnly = false
      this.#resumption.resume(stream)
    }
  }

  #join(stream: EventStream, channels: readonly string[]): void {
    const addresses = channelAddresses(channels)
    // What waits for it is older than its joining, and must not drag in older entries of the channel.
    this.#pump.advance(stream)
    // By what it got just now it may have ended.
    if (stream.isClosed) return
    for (const target of this.#targets(addresses)) {
      if (target.has(stream)) continue
      this.#addMember(stream, target)
      stream.targets = [...stream.targets, target]
      if (stream.parked || stream.cursor < this.#window.tail) {
        stream.joinedAt ??= new Map()
        stream.joinedAt.set(target, this.#window.tail)
      }
    }
  }

  #leave(stream: EventStream, channels: readonly string[]): void {
    const addresses = channelAddresses(channels)
    this.#pump.advance(stream)
    for (const target of this.#targets(addresses)) this.#removeMember(stream, target)
  }

  #targets(addresses: readonly string[]): Target[] {
    return addresses.map(address => this.#window.target(address))
  }

  #addMember(stream: EventStream, target: Target): void {
    if (target.size === 0 && target.name.startsWith('#')) this.#channels += 1
    target.add(stream)
  }

  #removeMember(stream: EventStream, target: Target): void {
    if (target.remove(stream)) {
      stream.targets = stream.targets.filter(other => other !== target)
      if (target.size === 0 && target.name.startsWith('#')) this.#channels -= 1
    }
    if (target !== this.#everyone) this.#window.release(target)
  }

  #onClosed(stream: EventStream, reason: CloseReason): void {
    this.#pump.forget(stream)
    this.#resumption.forget(stream)
    for (const target of stream.targets) this.#removeMember(stream, target)
    // Another stream of the same id may have come in the meantime: that one keeps the client.
    if (stream.client.target.size === 0) this.#clients.delete(stream.id)
    this.#counts.closed[reason] += 1
    this.#emitter.emit('close', stream as EventStream<Events>, reason)
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
    const appended = this.#isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing can be sent'),
        )
      : this.#log.append(
          key === undefined ? { nonce, target, frame } : { nonce, target, frame, key },
        )
    // Also marks the rejection as handled, so that a send that nobody awaits cannot end the process.
    appended.catch(error => this.#emitter.error(error))
    return appended
  }

  #sink(): LogSink {
    return {
      reset: (entries, reason) => {
        if (reason === 'boot' && !this.#isBooted) this.#boot(entries)
        else this.#renew(entries, reason === 'replaced' ? 'replaced' : 'trimmed')
        this.#resumption.windowRenewed()
      },
      append: entries => {
        for (const entry of entries) {
          if (entry.target !== '') this.#counts.entries += 1
          this.#window.append(entry)
        }
        this.#resumption.windowChanged()
      },
      state: isUp => {
        this.#isUp = isUp
        this.#resumption.stateChanged(isUp)
      },
    }
  }

  #boot(entries: Parameters<LogSink['reset']>[0]): void {
    for (const entry of entries) this.#window.append(entry)
    this.#isBooted = true
    for (const start of this.#onBoot.splice(0)) start()
    for (const stream of this.#streams()) {
      this.#pump.advance(stream)
      if (!stream.parked) this.#greet(stream)
    }
  }

  /** Another window: streams go on where they were, if it still has that place. */
  #renew(entries: Parameters<LogSink['reset']>[0], reason: GapReason): void {
    const places = new Map<EventStream, string | undefined>()
    for (const stream of this.#streams()) {
      if (stream.parked) continue
      this.#pump.advance(stream)
      places.set(stream, this.#window.idAt(stream.cursor))
    }
    this.#window.clear()
    this.#isRenewing = true
    for (const entry of entries) this.#window.append(entry)
    this.#isRenewing = false
    for (const [stream, id] of places) {
      const position = id === undefined ? undefined : this.#window.find(id)
      if (position !== undefined) stream.goOnAt(position)
      else {
        stream.gap = reason
        // What another log says of this id is from another time.
        if (reason === 'replaced') stream.removal = undefined
      }
      this.#pump.advance(stream)
    }
  }

  async #drain(spread: number): Promise<void> {
    await drain(this.#everyone, spread)
    // Not before: until its stream is ended a client gets what is sent.
    this.#isClosed = true
    this.#heartbeat.stop()
    await this.#log.close()
  }
}

/** All names are checked before the first target is made, or a wrong one would leave some behind. */
function channelAddresses(names: readonly string[]): string[] {
  return names.map(name => formatTarget({ kind: 'channel', name: channelName(name) }))
}

function exceptOf(options: SendOptions | undefined): string | undefined {
  for (const name in options) {
    if (name !== 'except') throw new TypeError(`Unknown option "${name}"; known is except`)
  }
  return options?.except === undefined ? undefined : clientIdOf(options.except)
}
