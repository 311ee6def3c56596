/**
 * Reads a stream from a sequence on, by a push consumer of its own with flow control and idle
 * heartbeats. Whatever is wrong (a message lost on the way, a consumer that was deleted, silence)
 * ends it; going on is up to who started it, since that may not be where the stream is now.
 *
 * The library's ordered consumer would go on by itself, at a sequence that in a stream made anew
 * means something else.
 */
import { randomUUID } from 'node:crypto'
import { AckPolicy, DeliverPolicy, type JetStreamManager } from '@nats-io/jetstream'
import type { Message } from './tail.js'

/** What is used of a message. */
export interface RawMessage {
  readonly subject: string
  readonly reply?: string | undefined
  readonly data: Uint8Array
  readonly headers?: { readonly code: number; get(name: string): string } | undefined
}

/** What is used of a connection, apart from what `@nats-io/jetstream` does with it. */
export interface NatsConnectionLike {
  publish(subject: string, payload?: string): void
  subscribe(
    subject: string,
    options: { callback: (error: Error | null, message: RawMessage) => void },
  ): { unsubscribe(): void }
  status(): AsyncIterable<{ readonly type: string }>
  isClosed(): boolean
  readonly options?: { readonly inboxPrefix?: string | undefined } | undefined
}

export interface ConsumerOptions {
  readonly connection: NatsConnectionLike
  readonly manager: JetStreamManager
  readonly stream: string
  readonly subject: string
  readonly onMessage: (message: Message) => void
  /** All there is has been delivered. */
  readonly onIdle: () => void
  /** It has ended by itself. */
  readonly onEnd: (error: Error) => void
}

const NANOSECONDS_PER_MS = 1_000_000
const HEARTBEAT_INTERVAL_MS = 2000
/** A missed heartbeat, and some time for a busy server. */
const SILENCE_TIMEOUT_MS = HEARTBEAT_INTERVAL_MS + 2500

const MESSAGE_LOST = 'a message was lost on the way'

export class Consumer {
  readonly #options: ConsumerOptions
  readonly #inbox: string
  #name: string | undefined
  #subscription: { unsubscribe(): void } | undefined
  #watchdog: NodeJS.Timeout | undefined
  /** Messages delivered by this consumer. */
  #delivered = 0
  #received = 0
  #isStopped = false

  constructor(options: ConsumerOptions) {
    this.#options = options
    this.#inbox = `${inboxPrefix(options.connection)}.${randomUUID().replaceAll('-', '')}`
  }

  async start(from: number): Promise<void> {
    const { connection, manager, stream } = this.#options
    this.#subscription = connection.subscribe(this.#inbox, {
      callback: (error, message) => this.#receive(error, message),
    })
    const { name } = await manager.consumers.add(stream, {
      deliver_subject: this.#inbox,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: from,
      ack_policy: AckPolicy.None,
      flow_control: true,
      idle_heartbeat: HEARTBEAT_INTERVAL_MS * NANOSECONDS_PER_MS,
      // Kept where it costs nothing: when the server restarts, a new one is made anyway.
      mem_storage: true,
      num_replicas: 1,
    })
    this.#name = name
    if (this.#isStopped) this.#remove()
    else this.#watch()
  }

  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    clearTimeout(this.#watchdog)
    this.#subscription?.unsubscribe()
    this.#remove()
  }

  /** Else it would take the server some seconds to notice that nobody listens. */
  #remove(): void {
    const { connection, manager, stream } = this.#options
    if (this.#name === undefined || connection.isClosed()) return
    manager.consumers.delete(stream, this.#name).catch(() => {})
    this.#name = undefined
  }

  #end(message: string, cause?: unknown): void {
    if (this.#isStopped) return
    this.stop()
    this.#options.onEnd(new Error(message, { cause }))
  }

  #watch(): void {
    this.#watchdog = setTimeout(() => {
      const received = this.#received
      // If it was this process that slept, what came meanwhile is read first, and starts it anew.
      setImmediate(() => {
        if (this.#received === received) this.#end(`nothing was heard for ${SILENCE_TIMEOUT_MS} ms`)
      })
    }, SILENCE_TIMEOUT_MS)
    this.#watchdog.unref()
  }

  #receive(error: Error | null, message: RawMessage): void {
    if (this.#isStopped) return
    this.#received += 1
    this.#watchdog?.refresh()
    try {
      if (error !== null) throw error
      const { headers, reply } = message
      if (isDelivery(reply)) this.#deliver(message, reply)
      else if (headers?.code === 100) this.#answer(message, headers)
      else if (headers !== undefined) this.#end(`the consumer ended with status ${headers.code}`)
    } catch (cause) {
      this.#end(cause instanceof Error ? cause.message : 'reading failed', cause)
    }
  }

  #deliver({ subject, data }: RawMessage, reply: string): void {
    const tokens = reply.split('.')
    // `$JS.ACK.<stream>.<consumer>.…`, or with domain and account before the stream.
    const at = tokens.length === 9 ? 5 : 7
    this.#delivered += 1
    if (Number(tokens[at + 1]) !== this.#delivered) throw new Error(MESSAGE_LOST)
    this.#options.onMessage({
      sequence: Number(tokens[at]),
      pending: Number(tokens[at + 3]),
      data: subject === this.#options.subject ? data : undefined,
    })
  }

  /** A heartbeat, or the question whether we keep up: both answered once all before was handled. */
  #answer({ reply }: RawMessage, headers: NonNullable<RawMessage['headers']>): void {
    const stalled = reply || headers.get('Nats-Consumer-Stalled')
    if (stalled) this.#options.connection.publish(stalled)
    if (reply) return
    if (Number(headers.get('Nats-Last-Consumer')) !== this.#delivered) throw new Error(MESSAGE_LOST)
    this.#options.onIdle()
  }
}

const isDelivery = (reply: string | undefined): reply is string =>
  reply?.startsWith('$JS.ACK.') === true

/** Permissions may allow the user's own prefix only; the library keeps it with its options. */
function inboxPrefix(connection: NatsConnectionLike): string {
  return connection.options?.inboxPrefix ?? '_INBOX'
}
