/**
 * The log as a [JetStream stream](https://docs.nats.io/nats-concepts/jetstream/streams) of NATS, shared
 * by all processes that use the same stream.
 *
 * The log uses your connection, which must be configured to reconnect. Nothing is queued while it is
 * down and nothing is sent twice: an append is either acknowledged or rejects.
 *
 * @module koa-sse-pool/nats
 */
import { type JetStreamManager, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { nonceSource } from '../lib/random.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { checkNonce, Health } from '../log/shared.js'
import { Consumer, type NatsConnectionLike } from './consumer.js'
import { entryId } from './entry.js'
import { downError, errorKind } from './errors.js'
import { type NatsLogOptions, type ResolvedNatsOptions, resolveNatsOptions } from './options.js'
import { Publisher } from './publisher.js'
import { openStream, UnusableStream } from './stream.js'
import { Discontinuity, Tail } from './tail.js'

export type { NatsConnectionLike } from './consumer.js'
export type { NatsLogOptions } from './options.js'

/** The log that {@link natsLog} returns; pass it to `new ClientPool({ log })`. */
export interface NatsLog extends EventLog {
  /** How many messages this process has skipped because another program wrote them to the stream. */
  readonly foreign: number
}

/**
 * Stores the events of a pool in a JetStream stream, so that all processes with the same `stream` share
 * them. Requires the package `@nats-io/jetstream`. The log uses your connection and never closes it:
 * close it after `pool.close()`, or the process does not end.
 *
 * An append rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the event was not stored,
 * `ERR_SSE_LOG_UNCERTAIN` if the acknowledgement was lost. `error.retry()` then stores it once, whatever
 * had happened. If NATS is unreachable at the start, the log waits for it. If the existing stream cannot
 * serve as a log, such as one with another `retention` than `limits`, the pool emits an `error` that says
 * why, and the log keeps trying.
 *
 * @example
 * ```js
 * import { connect } from '@nats-io/transport-node'
 * import { ClientPool } from 'koa-sse-pool'
 * import { natsLog } from 'koa-sse-pool/nats'
 *
 * // Not awaited, so that the app also starts without NATS.
 * const connection = connect({
 *   servers: process.env.NATS_URL,
 *   maxReconnectAttempts: -1,
 *   waitOnFirstConnect: true,
 * })
 * const pool = new ClientPool({ log: natsLog({ connection, stream: 'app-events' }) })
 * pool.on('error', error => console.error(error.message))
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid.
 */
export function natsLog(options: NatsLogOptions): NatsLog {
  return new JetStreamLog(options)
}

/** The connection and what is built on it. */
interface JetStreamConnection {
  readonly connection: NatsConnectionLike
  readonly manager: JetStreamManager
  readonly publisher: Publisher
  readonly status: AsyncIterable<{ readonly type: string }> & { stop?(): void }
}

class JetStreamLog implements NatsLog {
  readonly engine = 'NATS'
  readonly #options: ResolvedNatsOptions
  readonly #nonce = nonceSource()
  /** Undefined until the log is opened. */
  #health: Health | undefined
  #tail: Tail | undefined
  #connected: JetStreamConnection | undefined
  #consumer: Consumer | undefined
  /** Numbers the readings, so that late callbacks of an earlier one are ignored. */
  #reading = 0
  #retry: NodeJS.Timeout | undefined
  #failures = 0
  #isUp = false
  #isClosed = false
  /** Resolves once it is known whether the stream can be reached; until then appends wait. */
  readonly #stateKnown = deferred<void>()
  readonly #opened = deferred<void>()

  constructor(options: NatsLogOptions) {
    this.#options = resolveNatsOptions(options)
  }

  get foreign(): number {
    return this.#tail?.foreign ?? 0
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#health !== undefined)
      throw new TypeError('natsLog(): a log can be opened once; create one for each pool')
    if (this.#isClosed) throw downError('cannot open', 'the log was closed')
    this.#health = new Health(sink)
    this.#tail = new Tail({
      ...this.#options,
      sink,
      onReset: () => this.#opened.resolve(),
      onEmpty: () => void this.#mark(),
    })
    void this.#connect()
    return this.#opened.promise
  }

  async append(entry: Omit<Entry, 'id'>): Promise<string> {
    const { nonce } = entry
    checkNonce(nonce)
    // Publish synchronously if possible, so that two calls in a row keep their order.
    const { publisher, tail } = this.#isUp ? this.#parts() : await this.#whenUp('not stored')
    const known = tail.idOf(nonce)
    if (known !== undefined) return known
    const { incarnation } = tail
    const { seq, duplicate } = await publisher.publish(entry)
    const id = entryId(seq, incarnation, nonce)
    const wasUncertain = publisher.wasUncertain(nonce)
    if (duplicate) return id
    const isNext = publisher.isNext(seq)
    if (!isNext) this.#markReplaced(tail)
    // Until the tail has verified the stream, other appends of this batch get consecutive sequences in
    // the new stream too. They pass `isNext`, but their ids are no more certain.
    const isSame = tail.isVerified && tail.incarnation === incarnation
    if (isNext && isSame && !wasUncertain) return id
    // Readers know the entry by another id: one of the new stream, or that of the first attempt.
    await tail.whenRead(seq).catch(() => {})
    return tail.idOf(nonce) ?? id
  }

  compare(a: string, b: string): number {
    return this.#tail?.compare(a, b) ?? Number.NaN
  }

  async barrier(): Promise<string | null> {
    const { manager, tail } = await this.#whenUp('the last id cannot be read')
    try {
      const { position } = tail
      const facts = await manager.streams.info(this.#options.stream)
      if (tail.isOther(facts, position)) this.#markReplaced(tail)
      // The last message may be foreign or deleted, so readers never receive it: resolve to the last
      // entry up to it.
      return await tail.whenRead(facts.state.last_seq)
    } catch (error) {
      throw downError('the last id cannot be read', error)
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#interrupt(new Error('the log is closed'))
    this.#connected?.status.stop?.()
    this.#stateKnown.resolve()
    this.#opened.reject(downError('cannot open', 'the log was closed'))
    // Appends under way still get their reply or their timeout.
    await this.#connected?.publisher.settled()
  }

  async #connect(): Promise<void> {
    const { connection: given, timeout } = this.#options
    try {
      if ('then' in given) {
        const late = setTimeout(() => this.#setUp(false), timeout)
        await Promise.resolve(given).finally(() => clearTimeout(late))
      }
      const connection = await given
      if (this.#isClosed) return
      // `NatsConnectionLike` declares only what this package uses; the value is a full connection.
      const natsConnection = connection as Parameters<typeof jetstream>[0]
      const publisher = new Publisher({
        ...this.#options,
        client: jetstream(natsConnection, { timeout }),
        onNoResponder: error => this.#fail(this.#reading, error),
      })
      const manager = await jetstreamManager(natsConnection, { timeout, checkAPI: false })
      this.#connected = { connection, manager, publisher, status: connection.status() }
      void this.#read()
      for await (const { type } of this.#connected.status) this.#onStatus(type)
    } catch (error) {
      this.#report(error)
      this.#setUp(false)
      this.#opened.reject(downError('cannot open', error))
    }
  }

  #onStatus(type: string): void {
    if (this.#isClosed) return
    if (type === 'disconnect' || type === 'close') {
      const error = new Error(type === 'close' ? 'the connection was closed' : 'disconnected')
      this.#interrupt(error)
      this.#connected?.publisher.abandon(error)
      this.#report(error)
      this.#setUp(false)
      if (type === 'close') this.#opened.reject(downError('cannot open', error))
    } else if (type === 'reconnect') {
      this.#interrupt(new Error('reconnected'))
      this.#failures = 0
      void this.#read()
    }
  }

  /** Finds or creates the stream, and reads it from the current position. */
  async #read(): Promise<void> {
    const { connection, manager, publisher } = this.#connected as JetStreamConnection
    const tail = this.#tail as Tail
    this.#reading += 1
    const reading = this.#reading
    try {
      const facts = await openStream(manager, this.#options)
      if (reading !== this.#reading) return
      if (tail.isOther(facts)) publisher.forget()
      const from = tail.begin(facts)
      this.#consumer = new Consumer({
        ...this.#options,
        connection,
        manager,
        onMessage: message => {
          // The first messages may arrive before the reply that creates the consumer.
          if (!this.#isUp) this.#setUp(true)
          tail.accept(message)
        },
        onIdle: () => {
          tail.idle()
          // Reset only now: a reading that always fails early must not be retried without a pause.
          this.#failures = 0
        },
        onEnd: error => {
          if (!(error.cause instanceof Discontinuity)) this.#fail(reading, error)
          else if (reading === this.#reading) this.#restartReading()
        },
      })
      await this.#consumer.start(from)
      if (reading !== this.#reading) return
      this.#setUp(true)
      // Otherwise only the first heartbeat would report that, two seconds later.
      if (facts.state.messages === 0) tail.idle()
    } catch (error) {
      this.#fail(reading, error)
      if (error instanceof UnusableStream) this.#opened.reject(downError('cannot open', error))
    }
  }

  /** Handles a stream that was deleted and created again before the consumer has noticed. */
  #markReplaced(tail: Tail): void {
    tail.markReplaced()
    this.#restartReading()
  }

  /** Without a pause: the stream can be reached, only its content is not what was expected. */
  #restartReading(): void {
    this.#stopReading()
    void this.#read()
  }

  /** Reads again after a pause that grows with each failure. */
  #fail(reading: number, error: unknown): void {
    if (reading !== this.#reading || this.#isClosed) return
    this.#interrupt(error instanceof Error ? error : new Error(String(error)))
    this.#report(error)
    this.#setUp(false)
    const pause = Math.min(5000, 100 * 2 ** this.#failures)
    this.#failures += 1
    // With jitter, so that the processes do not all come back at the same moment.
    this.#retry = setTimeout(() => void this.#read(), pause * (0.5 + Math.random() / 2))
  }

  #interrupt(error: Error): void {
    this.#stopReading()
    this.#isUp = false
    this.#tail?.rejectWaiters(error)
  }

  #stopReading(): void {
    this.#reading += 1
    clearTimeout(this.#retry)
    this.#consumer?.stop()
    this.#consumer = undefined
  }

  async #mark(): Promise<void> {
    const reading = this.#reading
    try {
      const mark = { nonce: this.#nonce(), target: '', frame: '' }
      await this.#connected?.publisher.publish(mark)
    } catch (error) {
      this.#fail(reading, error)
    }
  }

  async #whenUp(what: string) {
    if (!this.#isClosed) await this.#stateKnown.promise
    if (this.#isClosed) throw downError(what, 'the log is closed')
    // The driver would queue it and send it after reconnecting, when the caller already got an error.
    if (!this.#isUp) throw downError(what, 'the stream is out of reach')
    return this.#parts()
  }

  #parts() {
    return { ...(this.#connected as JetStreamConnection), tail: this.#tail as Tail }
  }

  #report(error: unknown): void {
    this.#health?.report(errorKind(error), downError('the stream is out of reach', error))
  }

  #setUp(isUp: boolean): void {
    if (this.#isClosed) return
    this.#isUp = isUp
    this.#stateKnown.resolve()
    this.#health?.setUp(isUp)
  }
}

function deferred<Value>() {
  let resolve!: (value: Value) => void
  let reject!: (error: Error) => void
  const promise = new Promise<Value>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  // Prevents an unhandled rejection if nothing awaits the promise.
  promise.catch(() => {})
  return { promise, resolve, reject }
}
