/** A connection to PostgreSQL that is replaced by a new one, after a pause, whenever it is lost or unusable. */
import { setTimeout as pause } from 'node:timers/promises'
import { randomBetween } from '../lib/random.js'

/** What is used of a `Client` of the package `pg`. */
export interface PgClient {
  connect(): Promise<unknown>
  query(query: {
    text: string
    values?: unknown[]
    rowMode?: 'array'
  }): Promise<{ rows: unknown[] }>
  on(event: 'error' | 'end' | 'notification', listener: (error?: unknown) => void): unknown
  end(): Promise<void>
  readonly connection?: { readonly stream?: { destroy(): unknown } }
}

/** Makes a client with the options of the user's pool. */
export type CreateClient = (timeout: number) => PgClient

/** One connection, which is never reused after it was lost. */
export class Connection {
  /** Resolves to the reason when the connection ends. */
  readonly closed: Promise<Error>
  readonly #client: PgClient
  readonly #timeout: number
  #isClosed = false
  #close: (reason: Error) => void = () => {}

  /** @param timeout for connecting and for each reply, in ms */
  constructor(createClient: CreateClient, timeout: number) {
    this.#timeout = timeout
    this.closed = new Promise(resolve => {
      this.#close = resolve
    })
    this.#client = createClient(timeout)
    this.#client.on('error', error => this.destroy(error as Error))
    this.#client.on('end', () => this.destroy(new Error('the server closed the connection')))
  }

  async connect(): Promise<void> {
    const lost = this.closed.then(reason => Promise.reject(reason))
    await this.#withTimeout('connecting took', Promise.race([this.#client.connect(), lost]))
  }

  /**
   * Resolves to the rows, as arrays. If the server does not reply within `timeout` ms it rejects, and the
   * connection ends: a server that is frozen never reports an error of its own.
   */
  async query(text: string, values?: unknown[]): Promise<unknown[][]> {
    const query = values === undefined ? { text } : { text, values }
    const replied = this.#client.query({ ...query, rowMode: 'array' })
    const { rows } = await this.#withTimeout('no reply for', replied)
    return rows as unknown[][]
  }

  onNotification(listener: () => void): void {
    this.#client.on('notification', listener)
  }

  destroy(reason: Error): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#close(reason)
    // Says goodbye if it can, so that the server's log does not report a lost connection.
    this.#client.end().catch(() => {})
    // A server that does not answer would otherwise keep the socket, and the process, for good.
    this.#client.connection?.stream?.destroy()
  }

  #withTimeout<T>(what: string, promise: Promise<T>): Promise<T> {
    const timeout = this.#timeout
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
  readonly createClient: CreateClient
  /** For connecting and for each reply, in ms. */
  readonly timeout: number
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
    const connection = new Connection(this.#options.createClient, this.#options.timeout)
    this.#connection = connection
    await connection.connect()
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
