/** A connection that is replaced by a new one, after a pause, whenever it is lost or unusable. */
import { setTimeout as pause } from 'node:timers/promises'
import { randomBetween } from '../lib/random.js'
import type { CreateConnection, DriverConnection } from './client.js'

/** One connection, which is never reused after it was lost. */
export class Connection {
  /** Resolves to the reason when the connection ends. */
  readonly closed: Promise<Error>
  readonly #connection: DriverConnection
  readonly #timeout: number
  #isClosed = false
  #close: (reason: Error) => void = () => {}

  /** @param timeout for connecting, in ms */
  constructor(createConnection: CreateConnection, timeout: number) {
    this.#timeout = timeout
    this.closed = new Promise(resolve => {
      this.#close = resolve
    })
    this.#connection = createConnection(timeout, error => this.destroy(error))
  }

  async connect(): Promise<void> {
    const lost = this.closed.then(reason => Promise.reject(reason))
    const connected = Promise.race([this.#connection.connect(), lost])
    await this.#withTimeout(this.#timeout, 'connecting took', connected)
  }

  /** Resolves to the reply. Without one after `timeout` ms it rejects, and the connection ends. */
  send(args: string[], timeout: number): Promise<unknown> {
    return this.#withTimeout(timeout, `no reply to ${args[0]} for`, this.#connection.send(args))
  }

  subscribe(
    channel: string,
    listener: (message: string) => void,
    timeout: number,
  ): Promise<unknown> {
    const subscribed = this.#connection.subscribe(channel, listener)
    return this.#withTimeout(timeout, 'no reply to SUBSCRIBE for', subscribed)
  }

  unsubscribe(channel: string, timeout: number): Promise<unknown> {
    const unsubscribed = this.#connection.unsubscribe(channel)
    return this.#withTimeout(timeout, 'no reply to UNSUBSCRIBE for', unsubscribed)
  }

  destroy(reason: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#close(reason)
    this.#connection.destroy()
  }

  #withTimeout<T>(timeout: number, what: string, promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let isSettled = false
      const expire = () => {
        if (isSettled) return
        const error = new Error(`${what} more than ${timeout} ms`)
        reject(error)
        this.destroy(error)
      }
      // If this process was blocked, the reply may have arrived unread: let pending I/O run first.
      const timer = setTimeout(() => setImmediate(() => setImmediate(expire)), timeout)
      const settle = () => {
        isSettled = true
        clearTimeout(timer)
      }
      promise.then(
        value => {
          settle()
          resolve(value)
        },
        error => {
          settle()
          reject(error)
        },
      )
    })
  }
}

export interface ManagedConnectionOptions {
  readonly createConnection: CreateConnection
  /** For connecting, in ms. */
  readonly timeout: number
  /** Checks that the connection is usable before `get` resolves to it. */
  readonly prepare?: (connection: Connection) => Promise<void>
  /** Uses the connection until it fails. Calling `onHealthy` resets the back-off to a short pause. */
  readonly use: (connection: Connection, onHealthy: () => void) => Promise<never>
  readonly onFail: (error: unknown) => void
}

export class ManagedConnection {
  readonly #options: ManagedConnectionOptions
  readonly #closing = new AbortController()
  #connection: Connection | undefined
  #current: Promise<Connection>
  #done: Promise<void> | undefined

  constructor(options: ManagedConnectionOptions) {
    this.#options = options
    this.#current = rejected(new Error('the log has not been opened'))
  }

  open(): void {
    this.#done ??= this.#run()
  }

  /**
   * The connection. While one is being established, this waits for the outcome; between two attempts it
   * rejects at once, because waiting for longer than one attempt would be an unbounded queue.
   */
  get(): Promise<Connection> {
    return this.#current
  }

  /** Stops handing out the connection, and replaces it once `done` has settled. */
  retire(connection: Connection, reason: Error, done: Promise<unknown>): void {
    if (connection !== this.#connection) return
    this.#current = rejected(reason)
    void done.finally(() => connection.destroy(reason))
  }

  async close(): Promise<void> {
    const error = new Error('the log is closed')
    this.#closing.abort(error)
    this.#connection?.destroy(error)
    await this.#done
    this.#current = rejected(error)
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        this.#current = handled(this.#connect())
        await this.#options.use(await this.#current, () => {
          failures = 0
        })
      } catch (error) {
        this.#current = rejected(error)
        this.#connection?.destroy(error instanceof Error ? error : new Error(String(error)))
        if (signal.aborted) return
        this.#options.onFail(error)
      }
      await pause(backOff(failures), undefined, { signal }).catch(() => {})
    }
  }

  async #connect(): Promise<Connection> {
    const connection = new Connection(this.#options.createConnection, this.#options.timeout)
    this.#connection = connection
    await connection.connect()
    await this.#options.prepare?.(connection)
    return connection
  }
}

/**
 * Exponential back-off with full jitter, in ms: without jitter all processes would reconnect to a
 * restarted server at the same moment.
 */
function backOff(failures: number): number {
  return randomBetween([0, Math.min(5000, 50 * 2 ** failures)])
}

function rejected(error: unknown): Promise<never> {
  return handled(Promise.reject(error))
}

/** Prevents an unhandled rejection if nothing awaits the promise; callers that do still see it. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
