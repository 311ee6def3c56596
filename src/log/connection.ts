/** A connection to an engine that is replaced by a new one, after a pause, whenever it is lost or unusable. */
import { setTimeout as pause } from 'node:timers/promises'
import { randomBetween } from '../lib/random.js'

/** One connection, which is never reused after it was lost. An engine adds what it sends. */
export abstract class Connection {
  /** Resolves to the reason when the connection ends. */
  readonly closed: Promise<Error>
  readonly #timeout: number
  #isClosed = false
  #close: (reason: Error) => void = () => {}

  /** @param timeout for connecting, in ms */
  constructor(timeout: number) {
    this.#timeout = timeout
    this.closed = new Promise(resolve => {
      this.#close = resolve
    })
  }

  /** Lets the driver connect. */
  protected abstract dial(): Promise<unknown>
  /** Lets the driver end the connection. Called once. */
  protected abstract hangUp(): void

  async connect(): Promise<void> {
    const lost = this.closed.then(reason => Promise.reject(reason))
    await this.inTime(this.#timeout, 'connecting took', Promise.race([this.dial(), lost]))
  }

  destroy(reason: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#close(reason)
    this.hangUp()
  }

  /**
   * Waits for a reply. Without one after `timeout` ms it rejects, and the connection ends: a server that is
   * frozen never reports an error of its own.
   */
  protected inTime<T>(timeout: number, what: string, reply: Promise<T>): Promise<T> {
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
      reply.then(
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

export interface ManagedConnectionOptions<Connected extends Connection> {
  readonly create: () => Connected
  /** Checks that the connection is usable before `get` resolves to it. */
  readonly prepare?: (connection: Connected) => Promise<void>
  /** Uses the connection until it fails. Calling `onHealthy` resets the back-off to a short pause. */
  readonly use: (connection: Connected, onHealthy: () => void) => Promise<never>
  readonly onFail: (error: unknown) => void
}

export class ManagedConnection<Connected extends Connection> {
  readonly #options: ManagedConnectionOptions<Connected>
  readonly #closing = new AbortController()
  #connection: Connected | undefined
  #current: Promise<Connected>
  #done: Promise<void> | undefined

  constructor(options: ManagedConnectionOptions<Connected>) {
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
  get(): Promise<Connected> {
    return this.#current
  }

  /** Stops handing out the connection, and replaces it once `done` has settled. */
  retire(connection: Connected, reason: Error, done: Promise<unknown>): void {
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

  async #connect(): Promise<Connected> {
    const connection = this.#options.create()
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
