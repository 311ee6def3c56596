/** What the engine sends to PostgreSQL. */
import { Connection } from '../log/connection.js'

/** What is used of a `Client` of the package `pg`. */
export interface PgClient {
  connect(): Promise<unknown>
  query(query: {
    text: string
    values?: unknown[]
    rowMode?: 'array'
  }): Promise<{ rows: unknown[] }>
  on(event: 'error' | 'end' | 'notification', listener: (news?: unknown) => void): unknown
  end(): Promise<void>
  readonly connection?: { readonly stream?: { destroy(): unknown } }
}

/** Makes a client with the options of the user's pool. */
export type CreateClient = (timeout: number) => PgClient

export class PgConnection extends Connection {
  readonly #client: PgClient
  readonly #timeout: number
  /** Settles when the query before has: the driver wants to be given one at a time. */
  #idle: Promise<unknown> = Promise.resolve()

  /** @param timeout for connecting and for each reply, in ms */
  constructor(createClient: CreateClient, timeout: number) {
    super(timeout)
    this.#timeout = timeout
    this.#client = createClient(timeout)
    this.#client.on('error', error => this.destroy(error as Error))
    this.#client.on('end', () => this.destroy(new Error('the server closed the connection')))
  }

  /** Resolves to the rows, as arrays. Without a reply in time it rejects, and the connection ends. */
  async query(text: string, values?: unknown[]): Promise<unknown[][]> {
    const query = values === undefined ? { text } : { text, values }
    const replied = this.#idle.then(() => this.#client.query({ ...query, rowMode: 'array' }))
    this.#idle = replied.catch(() => {})
    const { rows } = await this.inTime(this.#timeout, 'no reply for', replied)
    return rows as unknown[][]
  }

  onNotification(listener: (payload: string) => void): void {
    this.#client.on('notification', news => listener((news as { payload?: string }).payload ?? ''))
  }

  protected override dial(): Promise<unknown> {
    return this.#client.connect()
  }

  protected override hangUp(): void {
    // Says goodbye if it can, so that the server's log does not report a lost connection.
    this.#client.end().catch(() => {})
    // A server that does not answer would otherwise keep the socket, and the process, for good.
    this.#client.connection?.stream?.destroy()
  }
}
