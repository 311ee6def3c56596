/**
 * Reads a stream, starting at a sequence, through a push consumer of its own with flow control and idle
 * heartbeats. Any irregularity (a lost message, a deleted consumer, silence) ends it. Its owner decides
 * where to resume, because the stream may have been replaced.
 *
 * The library's ordered consumer would resume by itself, at a sequence that means something else in a
 * stream that was deleted and created again.
 */
import { randomUUID } from 'node:crypto'
import { AckPolicy, DeliverPolicy, type JetStreamManager } from '@nats-io/jetstream'
import type { Message } from './tail.js'

/** The part of a NATS message that is used. */
export interface RawMessage {
  readonly subject: string
  readonly reply?: string | undefined
  readonly data: Uint8Array
  readonly headers?: { readonly code: number; get(name: string): string } | undefined
}

/**
 * The part of a NATS connection that `natsLog` uses. `@nats-io/jetstream` needs more of it: give it a
 * connection made by `connect()`.
 */
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
  /** Every message that the stream holds has been delivered. */
  readonly onIdle: () => void
  /** The consumer has ended without a call of `stop`. */
  readonly onEnd: (error: Error) => void
}

const NANOSECONDS_PER_MS = 1_000_000
const HEARTBEAT_INTERVAL_MS = 2000
/** One missed heartbeat, plus some time for a busy server. */
const SILENCE_TIMEOUT_MS = HEARTBEAT_INTERVAL_MS + 2500

const MESSAGE_LOST = 'a message from the server was lost'

export class Consumer {
  readonly #options: ConsumerOptions
  readonly #inbox: string
  #name: string | undefined
  #subscription: { unsubscribe(): void } | undefined
  #watchdog: NodeJS.Timeout | undefined
  /** The number of messages that this consumer has delivered. */
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
      // In memory, which is cheap: after a restart of the server a new consumer is created anyway.
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

  /** Deletes the consumer; the server alone would take seconds to notice that nothing subscribes. */
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
      // If this process was blocked, messages may have arrived unread: let pending I/O run first.
      setImmediate(() => {
        if (this.#received === received)
          this.#end(`the server has been silent for ${SILENCE_TIMEOUT_MS} ms`)
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
    // `$JS.ACK.<stream>.<consumer>.…`, or with a domain and an account hash before the stream.
    const at = tokens.length === 9 ? 5 : 7
    this.#delivered += 1
    if (Number(tokens[at + 1]) !== this.#delivered) throw new Error(MESSAGE_LOST)
    this.#options.onMessage({
      sequence: Number(tokens[at]),
      pending: Number(tokens[at + 3]),
      data: subject === this.#options.subject ? data : undefined,
    })
  }

  /** Answers a heartbeat or a flow control request, once all messages before it were handled. */
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

/** Permissions may allow only the connection's own inbox prefix, which is among its options. */
function inboxPrefix(connection: NatsConnectionLike): string {
  return connection.options?.inboxPrefix ?? '_INBOX'
}
