/**
 * The log as a NATS JetStream stream, shared by all processes that use the same one.
 *
 * It speaks over your connection, which must be made to reconnect. Nothing is queued while that is
 * away and nothing is sent twice: an append is acknowledged, or rejects.
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

export interface NatsLog extends EventLog {
  /** How many messages were skipped because something else wrote them into the stream. */
  readonly foreign: number
}

/** @throws TypeError that names the option, when one is missing, unknown or wrong. */
export function natsLog(options: NatsLogOptions): NatsLog {
  return new JetStreamLog(options)
}

/** What is made of the connection once that is there. */
interface JetStreamConnection {
  readonly connection: NatsConnectionLike
  readonly manager: JetStreamManager
  readonly publisher: Publisher
  readonly status: AsyncIterable<{ readonly type: string }> & { stop?(): void }
}

class JetStreamLog implements NatsLog {
  readonly #options: ResolvedNatsOptions
  readonly #nonce = nonceSource()
  /** Undefined until the log is opened. */
  #health: Health | undefined
  #tail: Tail | undefined
  #connected: JetStreamConnection | undefined
  #consumer: Consumer | undefined
  /** Counts readings, so that what a former one still brings is ignored. */
  #reading = 0
  #retry: NodeJS.Timeout | undefined
  #failures = 0
  #isUp = false
  #isClosed = false
  /** Whether it is known if the log can be reached; until then appends wait. */
  readonly #stateKnown = deferred<void>()
  readonly #opened = deferred<void>()

  constructor(options: NatsLogOptions) {
    this.#options = resolveNatsOptions(options)
  }

  get foreign(): number {
    return this.#tail?.foreign ?? 0
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#health !== undefined) throw new TypeError('natsLog(): a log is opened once only')
    if (this.#isClosed) throw downError('not open', 'it was closed')
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
    // At once, if possible: those who send twice in a row want it in that order.
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
    // While that is found out, what was sent with the first one is next to it, and no less in doubt.
    const isSame = tail.isVerified && tail.incarnation === incarnation
    if (isNext && isSame && !wasUncertain) return id
    // Readers know it by another id: that of the new stream, or the one that it got at first.
    await tail.whenRead(seq).catch(() => {})
    return tail.idOf(nonce) ?? id
  }

  compare(a: string, b: string): number {
    return this.#tail?.compare(a, b) ?? Number.NaN
  }

  async barrier(): Promise<string | null> {
    const { manager, tail } = await this.#whenUp('the last id cannot be read')
    try {
      const facts = await manager.streams.info(this.#options.stream)
      if (tail.isOther(facts)) this.#markReplaced(tail)
      // The last message may be foreign, or deleted: then nobody is ever given it.
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
    this.#opened.reject(downError('not open', 'it was closed'))
    // What was appended before gets its reply, or its timeout.
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
      // What the library needs is more than our types say, and it is given what it made.
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
      this.#opened.reject(downError('not open', error))
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
      if (type === 'close') this.#opened.reject(downError('not open', error))
    } else if (type === 'reconnect') {
      this.#interrupt(new Error('reconnected'))
      this.#failures = 0
      void this.#read()
    }
  }

  /** Finds the stream, and reads it from where we are. */
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
          // The first ones may overtake the answer that says that they will come.
          if (!this.#isUp) this.#setUp(true)
          tail.accept(message)
        },
        onIdle: () => {
          tail.idle()
          // Only now, or a reading that always fails soon would be tried again and again at once.
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
      // Otherwise the first heartbeat would say so, two seconds later.
      if (facts.state.messages === 0) tail.idle()
    } catch (error) {
      this.#fail(reading, error)
      if (error instanceof UnusableStream) this.#opened.reject(downError('not open', error))
    }
  }

  /** The stream was deleted and made anew, though nothing else has told us yet. */
  #markReplaced(tail: Tail): void {
    tail.markReplaced()
    this.#restartReading()
  }

  /** At once, since the stream is in reach; what it has is not what we expected. */
  #restartReading(): void {
    this.#stopReading()
    void this.#read()
  }

  /** Tries again soon. */
  #fail(reading: number, error: unknown): void {
    if (reading !== this.#reading || this.#isClosed) return
    this.#interrupt(error instanceof Error ? error : new Error(String(error)))
    this.#report(error)
    this.#setUp(false)
    const pause = Math.min(5000, 100 * 2 ** this.#failures)
    this.#failures += 1
    // Not all processes at once.
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
    // The driver would keep it until it is connected again, and then send it.
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
  // Nobody may be waiting.
  promise.catch(() => {})
  return { promise, resolve, reject }
}
