/**
 * Wires the parts of a pool together; {@link ClientPool} is the public face in front of it.
 *
 * The path of one event: it is encoded and appended to the log; the log assigns its id and passes it to
 * the feed; the feed puts it into the window, linked into its target; the target waits in the pump until
 * the end of the tick; then each of its members gets what lies between its cursor and the tail. See
 * docs/architecture.md.
 */
import type { EventEmitter } from 'node:events'
import { Feed, type FeedListener } from '../delivery/feed.js'
import { InFlight } from '../delivery/in-flight.js'
import type { Pages } from '../delivery/pages.js'
import { Pump } from '../delivery/pump.js'
import type { Reader, Replay } from '../delivery/reader.js'
import { Resumption, type ResumptionListener } from '../delivery/resume.js'
import { Window } from '../delivery/window.js'
import { got, SseError } from '../lib/errors.js'
import { clientIdOf } from '../lib/names.js'
import { nonceSource } from '../lib/random.js'
import type { CloseReason, GapReason } from '../lib/reasons.js'
import {
  type Entry,
  type EventLog,
  formatTarget,
  furtherTargets,
  parseTarget,
  type TargetAddress,
  targetOfMembers,
} from '../log/log.js'
import { MemoryLog } from '../log/memory.js'
import { MESSAGE, Messages } from '../log/messages.js'
import type { EventStream } from '../stream/event-stream.js'
import { StreamFace } from '../stream/face.js'
import { Stream, type StreamHost, type StreamRequest } from '../stream/stream.js'
import { connectionOf } from '../stream/transport/select.js'
import type { AnyResponse } from '../stream/transport/transport.js'
import { encodeData, encodePoolEvent, type PoolEvent } from '../wire/event.js'
import { CLOSE_EVENT } from '../wire/frames.js'
import { Addresses } from './addresses.js'
import { Claims } from './claims.js'
import { exceptOf, type Sender, type SendOptions, type TransactionOptions } from './client.js'
import { drain } from './drain.js'
import { SafeEmitter } from './emitter.js'
import { Expiry } from './expiry.js'
import { Heartbeat, type HeartbeatListener } from './heartbeat.js'
import { Members } from './members.js'
import { Memberships } from './memberships.js'
import type { ResolvedPoolOptions } from './options.js'
import { type Census, type Group, Processes } from './processes.js'
import { Counts, type PoolStats, type Refusal, type SendFailure } from './stats.js'
import { type EventTargets, Subscription, type SubscriptionHost } from './subscription.js'
import { survey } from './survey.js'
import type { Tracer } from './tracer.js'
import { Turns } from './turns.js'

/** A stream that the middleware asks for. */
export interface Admission extends Omit<StreamRequest, 'clientTarget'> {
  readonly replay: Replay
  readonly channels: readonly string[]
  /** What it reads instead of the pool's events. */
  readonly openPages?: OpenPages | undefined
}

/** Lets a new reader read a log of its own. */
export type OpenPages = (reader: Reader) => Pages

/** What a failed send counts as, by the code of its error. */
const FAILURES: Record<string, SendFailure> = {
  ERR_SSE_LOG_DOWN: 'down',
  ERR_SSE_LOG_UNCERTAIN: 'uncertain',
  ERR_SSE_POOL_CLOSED: 'closed',
}

/** Where a pool keeps its hub: a key that the ES module and the CommonJS copy of the package share. */
const HUB = Symbol.for('koa-sse-pool.hub')

/** Makes the hub of a pool known to {@link hubOf}, without showing it when the pool is inspected. */
export function attachHub(pool: object, hub: Hub): void {
  Object.defineProperty(pool, HUB, { value: hub })
}

/** Whether this is a pool, of this copy of the package or the other. */
export function hasHub(value: unknown): boolean {
  return typeof value === 'object' && value !== null && HUB in value
}

/** The hub behind a pool. */
export function hubOf(pool: object): Hub {
  return (pool as { [HUB]: Hub })[HUB]
}

export class Hub
  implements
    Census,
    FeedListener,
    HeartbeatListener,
    ResumptionListener,
    Sender,
    StreamHost,
    SubscriptionHost
{
  readonly options: ResolvedPoolOptions
  readonly window: Window
  readonly pump: Pump
  readonly inFlight: InFlight
  readonly members: Members
  readonly expiry = new Expiry()
  readonly addresses: Addresses
  readonly turns = new Turns()
  readonly processes: Processes
  readonly claims: Claims
  tracer: Tracer | undefined
  readonly #memberships: Memberships
  readonly messages: Messages
  readonly traffic = { deliveries: 0, bytes: 0 }
  readonly #log: EventLog
  readonly #emitter: SafeEmitter
  readonly #feed: Feed
  readonly #resumption: Resumption
  readonly #heartbeat: Heartbeat
  readonly #nonce = nonceSource()
  readonly #counts = new Counts()
  readonly #subscriptions = new Set<Subscription>()
  /** Readers that arrived before the window was filled, and how each starts then. */
  readonly #waitingForBoot = new Map<Reader, { resumes: boolean; replay: Replay }>()
  /** Called when all streams have ended, while the log can still be written. Must not reject. */
  beforeClose: (() => Promise<void>) | undefined
  #closing: Promise<void> | undefined
  #isClosed = false

  /** @param emitter that the app's listeners are added to. */
  constructor(options: ResolvedPoolOptions, emitter: EventEmitter) {
    this.options = options
    this.#emitter = new SafeEmitter(emitter)
    this.#log = options.log ?? new MemoryLog()
    this.window = new Window(this.#log, options.window)
    this.pump = new Pump(this.window, options.maxBufferedBytes / 2)
    this.inFlight = new InFlight(this.window)
    this.members = new Members(this.window, this.pump, this, options)
    this.addresses = new Addresses(options)
    this.#resumption = new Resumption(this.window, this.#log, this)
    this.#heartbeat = new Heartbeat(this.window, this.pump, this, options)
    // No other process shares the memory log.
    const messages = new Messages(options.log, this.#nonce)
    this.messages = messages
    this.processes = new Processes(messages, this, this.#nonce)
    this.claims = new Claims(messages, this.#nonce)
    this.#memberships = new Memberships(messages, this.members)
    this.#feed = new Feed(this.window, this.inFlight, this.#resumption, messages, this)
    this.#log.open(this.#feed).catch(error => {
      this.#feed.state(false)
      this.error(error)
    })
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Whether new streams can be served: the log is in reach, and the pool is not closing. */
  get isReady(): boolean {
    return this.#feed.isBooted && this.#feed.isUp && this.#closing === undefined
  }

  stats(): PoolStats {
    const { blocked, ...streams } = survey(this.members.streams(), this.window)
    return {
      clients: this.members.clients.size,
      ...streams,
      polls: this.#subscriptions.size,
      channels: this.window.countTargets('#'),
      lagging: this.pump.hungry + blocked,
      waiting: this.turns.waiting,
      ...this.#counts.snapshot(),
      ...this.traffic,
      entries: this.#feed.entries,
      foreign: this.#feed.foreign,
      window: this.window.size,
      log: this.#feed.isUp ? 'up' : 'down',
    }
  }

  // Sending

  send(id: string | number, event: PoolEvent, options?: TransactionOptions): Promise<string> {
    const transaction = this.#transactionOf('send()', options)
    return this.#publish({ kind: 'client', name: clientIdOf(id) }, event, transaction)
  }

  /** To one channel or more; members of several get the event once. */
  sendToChannels(
    [name = '', ...also]: readonly string[],
    event: PoolEvent,
    options?: SendOptions,
  ): Promise<string> {
    const except = exceptOf(options)
    const transaction = this.#transactionOf('channel.send()', options)
    const address = { kind: 'channel', name, except } as const
    return this.#publish(also.length === 0 ? address : { ...address, also }, event, transaction)
  }

  /** Sends an event of which several processes know the nonce: however many send it, the channel gets one. */
  sendToChannelOnce(nonce: string, name: string, event: PoolEvent & { key: string }) {
    const target = formatTarget({ kind: 'channel', name })
    return this.#store({
      nonce,
      target,
      frame: encodePoolEvent(event, this.options),
      key: event.key,
    })
  }

  broadcast(event: PoolEvent, options?: SendOptions): Promise<string> {
    const except = exceptOf(options)
    const transaction = this.#transactionOf('broadcast()', options)
    return this.#publish({ kind: 'everyone', name: '', except }, event, transaction)
  }

  remove(id: string | number, data?: unknown, options?: TransactionOptions): Promise<string> {
    const frame = encodeData(data, this.options)
    const transaction = this.#transactionOf('remove()', options)
    return this.#append({ kind: 'remove', name: clientIdOf(id) }, frame, undefined, transaction)
  }

  removeMembers(name: string, data?: unknown): Promise<string> {
    const frame = encodeData(data, this.options)
    return this.#append({ kind: 'removeMembers', name }, frame)
  }

  /** Adds a client's streams to a channel, or takes them out. */
  changeMembership(does: 'add' | 'remove', channel: string, id: string | number): Promise<string> {
    const frame = this.#memberships.frameOf({ does, channel, id: clientIdOf(id) })
    return this.#store({ nonce: this.#nonce(), target: MESSAGE, frame })
  }

  /** Ends the streams of this process that are chosen. Returns their number. */
  removeWhere(isChosen: (stream: EventStream) => unknown, data?: unknown): number {
    const frame = encodeData(data, this.options)
    // All of them first, so that a predicate that throws ends none.
    const chosen = [...this.members.streams()].filter(({ face }) => {
      const answer = isChosen(face)
      if (typeof answer === 'boolean') return answer
      // A promise would count as true and end every stream; undefined would silently keep one.
      throw new TypeError(
        `removeWhere(): the function must return a boolean, and not a promise; got ${got(answer)}`,
      )
    })
    for (const stream of chosen) stream.close('removed', { data: frame })
    return chosen.length
  }

  #publish(address: TargetAddress, event: PoolEvent, transaction?: unknown): Promise<string> {
    const frame = encodePoolEvent(event, this.options)
    if (typeof event === 'string') return this.#append(address, frame, undefined, transaction)
    const { key, ttl, volatile } = event
    if (ttl === undefined && !volatile) return this.#append(address, frame, key, transaction)
    const until = ttl === undefined ? undefined : Date.now() + ttl
    return this.#append({ ...address, until, volatile }, frame, key, transaction)
  }

  /** @throws TypeError if the log would store the event outside of the transaction, even after a rollback. */
  #transactionOf(call: string, options: TransactionOptions | undefined): unknown {
    const transaction = options?.transaction
    if (transaction === undefined) return undefined
    if (transaction === null) {
      throw new TypeError(
        `${call}: option "transaction" must be what the log takes, such as a pg client after BEGIN; got null; leave it out to send at once`,
      )
    }
    if (this.#log.takesTransactions) return transaction
    const log = this.options.log === undefined ? 'the memory log' : 'a log without transactions'
    throw new TypeError(
      `${call}: option "transaction" needs a log that can store the event in it; got ${got(transaction)}, but the pool has ${log}; create the pool with { log: postgresLog(…) } or { log: sqliteLog(…) }`,
    )
  }

  #append(
    address: TargetAddress,
    frame: string,
    key?: string,
    transaction?: unknown,
  ): Promise<string> {
    const span = this.tracer?.sending(address, frame)
    const traced =
      span?.traceparent === undefined ? address : { ...address, trace: span.traceparent }
    const target = formatTarget(traced)
    const nonce = this.#nonce()
    const entry = key === undefined ? { nonce, target, frame } : { nonce, target, frame, key }
    const stored = this.#store(entry, transaction)
    span?.follow(stored)
    return stored
  }

  #store(entry: Omit<Entry, 'id'>, transaction?: unknown): Promise<string> {
    const stored = this.#isClosed
      ? Promise.reject(
          new SseError('ERR_SSE_POOL_CLOSED', 'The pool is closed: nothing can be sent'),
        )
      : this.#appended(entry, transaction)
    // Also marks the rejection as handled, so that a send that is not awaited cannot end the process.
    stored.catch(error => {
      this.#counts.failed[FAILURES[error?.code] ?? 'other'] += 1
      // By its code, as an engine of the package's other copy has a class of its own.
      // The transaction has failed with the append, so only the caller can repeat both.
      const isRepeatable = error?.code === 'ERR_SSE_LOG_UNCERTAIN' && transaction === undefined
      if (isRepeatable) error.retry = () => this.#store(entry)
      this.error(error)
    })
    return stored
  }

  #appended(entry: Omit<Entry, 'id'>, transaction: unknown): Promise<string> {
    // Past `inFlight`: the entry arrives only after the commit, so direct sends would wait for it, and the
    // commit itself for the promise.
    if (transaction !== undefined) return this.#log.append(entry, transaction)
    // The memory log puts the entry into the window before it returns.
    if (this.options.log === undefined) return this.#log.append(entry)
    const address = parseTarget(entry.target)
    const targets = address ? [targetOfMembers(address), ...furtherTargets(address)] : []
    return this.inFlight.append(entry, targets, this.#log)
  }

  // Streams, for the middleware

  /** Why a stream of this id cannot be admitted, if so; without an id, why none can be. */
  refusal(id?: string, res?: AnyResponse): Refusal | undefined {
    if (this.#closing) return 'draining'
    return this.members.refusal(id, res && connectionOf(res))
  }

  countRefusal(refusal: Refusal): void {
    this.#counts.refused[refusal] += 1
  }

  /** Creates a stream, adds it to its targets, and decides where it starts. */
  admit({ replay, channels, openPages, ...request }: Admission): Stream {
    const clientTarget = this.members.targetOf(request.id)
    const stream = new Stream({ ...request, clientTarget }, this)
    stream.face = new StreamFace(stream, this.members.client(request.id), this)
    this.members.add(stream, channels)
    if (openPages !== undefined) stream.readPages(openPages(stream))
    this.#counts.opened += 1
    const { resume } = request.route
    this.tracer?.admitted(stream, resume && stream.lastEventId !== '' && !stream.hasPages)
    this.#start(stream, resume, replay)
    // Only now: without the new stream, a client would leave the pool with its only one.
    this.members.replaceOldest(stream)
    this.#emitter.emit('open', stream.face)
    return stream
  }

  /** Sends the response's headers and all that is pending for the stream. */
  open(stream: Stream, headers: Record<string, string>, retry: number | undefined): void {
    if (stream.isOpen || stream.isClosed) return
    stream.open(headers, retry)
    this.pump.advance(stream)
    this.#heartbeat.watch(stream)
    this.tracer?.opened(stream)
    // What was sent before has ended it already.
    if (!stream.isClosed) this.#emitter.emit('start', stream.face)
  }

  streamMissed(stream: Stream, reason: GapReason): void {
    this.#counts.gapsByReason[reason] += 1
    this.#emitter.emit('gap', stream.face, reason)
  }

  streamClosed(stream: Stream, reason: CloseReason): void {
    this.#forget(stream)
    this.members.remove(stream)
    this.#restIfIdle()
    this.#counts.closed[reason] += 1
    this.tracer?.closed(stream, reason)
    this.#emitter.emit('close', stream.face, reason)
  }

  // Subscriptions

  /**
   * Reads entries without a stream. The caller has to close the subscription.
   *
   * @throws TypeError for a wrong id or channel name.
   */
  subscribe(
    { id, channels = [], everyone = true }: EventTargets,
    since: string,
    replay: Replay,
    closeEvent = CLOSE_EVENT,
    openPages?: OpenPages,
  ): Subscription {
    const own = id === undefined ? undefined : clientIdOf(id)
    // First: a wrong name throws, and a target that was made before would stay.
    const channelTargets = this.members.channelTargets(channels)
    const clientTarget = own === undefined ? undefined : this.members.targetOf(own)
    const subscription = new Subscription(own ?? '', clientTarget, since, closeEvent, this)
    const targets = [
      ...(everyone ? [this.window.everyone] : []),
      ...channelTargets,
      ...(clientTarget === undefined ? [] : [clientTarget]),
    ]
    subscription.follow(targets)
    // Also keeps the targets, which know what was evicted, from being forgotten.
    for (const target of targets) target.subscribe(subscription)
    this.#subscriptions.add(subscription)
    if (openPages !== undefined) subscription.readPages(openPages(subscription))
    if (this.#isClosed) subscription.close()
    else this.#start(subscription, true, replay)
    return subscription
  }

  /** A subscription that takes a place in the pool, as a stream does. */
  poll(...request: Parameters<Hub['subscribe']>): Subscription {
    const poll = this.subscribe(...request)
    if (poll.isClosed) return poll
    this.members.polls.add(poll)
    this.members.replaceOldest(poll)
    return poll
  }

  subscriptionMissed(reason: GapReason): void {
    this.#counts.gapsByReason[reason] += 1
  }

  subscriptionClosed(subscription: Subscription): void {
    this.#forget(subscription)
    this.#subscriptions.delete(subscription)
    this.members.polls.delete(subscription)
    this.#restIfIdle()
    for (const target of subscription.targets) {
      target.unsubscribe(subscription)
      this.window.release(target)
    }
    subscription.follow([])
  }

  // The log

  /** Decides where a reader begins, as soon as the log has filled the window. */
  #start(reader: Reader, resumes: boolean, replay: Replay): void {
    this.#heartbeat.start()
    this.window.prune()
    if (!this.#feed.isBooted) {
      reader.park()
      this.#waitingForBoot.set(reader, { resumes, replay })
      return
    }
    // The cursor of a reader of pages means nothing in the pool's log.
    if (resumes && reader.lastEventId !== '' && !reader.hasPages) {
      reader.startResuming(this.window)
      this.#resumption.resume(reader)
    } else {
      reader.start(this.window, replay)
    }
  }

  /** The reader has closed: nothing is to be delivered to it or decided for it any more. */
  #forget(reader: Reader): void {
    reader.closePages()
    this.pump.forget(reader)
    this.#waitingForBoot.delete(reader)
    this.#resumption.forget(reader)
  }

  #restIfIdle(): void {
    if (this.members.size === 0 && this.#subscriptions.size === 0) this.#heartbeat.stop()
  }

  *readers(): Iterable<Reader> {
    yield* this.members.streams()
    yield* this.#subscriptions
  }

  booted(): void {
    for (const [reader, { resumes, replay }] of this.#waitingForBoot) {
      this.#start(reader, resumes, replay)
      // Which of the entries were sent after it opened cannot be known.
      const isNew = !resumes || reader.lastEventId === ''
      const mayHaveMissed = isNew && replay === 'missed'
      if (mayHaveMissed && this.window.size.events > 0) reader.lose('unknown')
    }
    this.#waitingForBoot.clear()
    for (const subscription of this.#subscriptions) subscription.wake()
    for (const stream of this.members.streams()) {
      this.pump.advance(stream)
      if (!stream.isParked && stream.isOpen) this.#heartbeat.sendFirstCursor(stream)
    }
    void this.processes.enter()
  }

  appended({ id, target }: Entry): void {
    if (this.tracer === undefined) return
    const address = parseTarget(target)
    if (address?.trace === undefined) return
    const streams = this.window.sizeOf(targetOfMembers(address))
    if (streams > 0) this.tracer.arrived(id, address, streams, this.window.end)
  }

  lost(reader: Reader, reason: GapReason): void {
    if (reader instanceof Stream) this.tracer?.lost(reader, reason)
  }

  resumed(reader: Reader): void {
    this.#counts.replays += 1
    if (reader instanceof Stream) this.tracer?.resumed(reader, this.window.tail - reader.cursor)
  }

  settled(reader: Reader): void {
    if (reader instanceof Stream && reader.isOpen) this.#heartbeat.sendFirstCursor(reader)
  }

  error(error: unknown): void {
    this.#emitter.error(error)
  }

  // Heartbeats, counting, closing

  streams(): IterableIterator<Stream> {
    return this.members.streams()
  }

  beat(): void {
    this.window.prune()
    this.#resumption.retry()
  }

  count({ id, channel }: Group): { clients: number; streams: number } {
    if (channel !== undefined) return this.members.countChannel(channel)
    if (id === undefined) return { clients: this.members.clients.size, streams: this.members.size }
    const streams = this.members.streamsOfClient(id)
    return { clients: Math.min(streams, 1), streams }
  }

  /** Drains all streams within `spread` milliseconds, then closes everything, once. */
  close(spread: number): Promise<void> {
    this.#closing ??= this.#close(spread)
    return this.#closing
  }

  async #close(spread: number): Promise<void> {
    await drain(this.members, spread)
    // Only now: until its stream has ended, a client still gets what is sent.
    this.#isClosed = true
    this.claims.close()
    this.inFlight.close()
    this.#resumption.close()
    for (const subscription of this.#subscriptions) subscription.close()
    this.#heartbeat.stop()
    // Late, because a process that answers a question after its goodbye would be waited for again.
    await this.beforeClose?.()
    await this.processes.leave()
    await this.#log.close()
  }
}
