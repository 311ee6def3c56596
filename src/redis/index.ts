/**
 * The log as a [Redis stream](https://redis.io/docs/latest/develop/data-types/streams/), and a store for
 * {@link redisRuns | runs}, shared by all processes that use the same key. Both require Redis 5 or newer.
 *
 * The log opens two connections: one for commands and one that waits for new entries (tail.ts).
 * Nothing is queued and nothing is sent twice: an append is either acknowledged or rejects.
 *
 * @module koa-sse-pool/redis
 */
import { SseError } from '../lib/errors.js'
import { nonceSource } from '../lib/random.js'
import { ManagedConnection } from '../log/connection.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { checkNonce, forgetOldest, Health, Pending } from '../log/shared.js'
import { RedisConnection } from './connection.js'
import { compareIds, type Row, toFields } from './entry.js'
import { downError, errorKind, isErrorReply, isUnsent, uncertainError } from './errors.js'
import { type RedisLogOptions, type ResolvedOptions, resolveOptions } from './options.js'
import { Tail } from './tail.js'

export type { IoredisClient, NodeRedisClient, RedisClient } from './client.js'
export type { RedisLogOptions, RedisRunsOptions } from './options.js'
export { redisRuns } from './runs.js'

/** The log that {@link redisLog} returns; pass it to `new ClientPool({ log })`. */
export interface RedisLog extends EventLog {
  /** How many entries this process has skipped because another program wrote them to the stream. */
  readonly foreign: number
}

/**
 * Stores the events of a pool in a Redis stream, so that all processes with the same `key` share them.
 * The given client is only a template: the log opens two connections of its own with the client's
 * options, reconnects them when they are lost, and ends them on `pool.close()`.
 *
 * An append rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if the event was not stored,
 * `ERR_SSE_LOG_UNCERTAIN` if the reply was lost or `wait` was not satisfied in time. `error.retry()`
 * then stores it once, whatever had happened. If Redis is unreachable at the start, the log waits for it.
 *
 * @example
 * ```js
 * import { createClient } from 'redis' // or: import { Redis } from 'ioredis'
 * import { ClientPool } from 'koa-sse-pool'
 * import { redisLog } from 'koa-sse-pool/redis'
 *
 * const client = createClient({ url: process.env.REDIS_URL }) // need not be connected
 * const pool = new ClientPool({ log: redisLog({ client, key: 'app:events' }) })
 * pool.on('error', error => console.error(error.message))
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid.
 */
export function redisLog(options: RedisLogOptions): RedisLog {
  return new RedisStreamLog(options)
}

class RedisStreamLog implements RedisLog {
  readonly engine = 'Redis'
  readonly #options: ResolvedOptions
  readonly #nonce = nonceSource()
  readonly #commands: ManagedConnection<RedisConnection>
  #tail: Tail | undefined
  #tailConnection: ManagedConnection<RedisConnection> | undefined
  /** Undefined until the log is opened. */
  #health: Health | undefined
  /** Connected to a replica; reconnects, with growing pauses, until the address leads to a primary. */
  #isReadOnly = false
  #onHealthy = () => {}
  readonly #isUp = { commands: true, tail: true }
  /** The ids, by nonce, of entries that were stored but not read back yet. */
  readonly #unread = new Map<string, string>()
  /** Nonces of appends without a reply: storing one again may create a second row. */
  readonly #uncertain = new Set<string>()
  readonly #pending = new Pending<string>()
  #closing: Promise<void> | undefined

  constructor(options: RedisLogOptions) {
    this.#options = resolveOptions(options)
    const { createConnection, timeout, key } = this.#options
    this.#commands = new ManagedConnection({
      create: () => new RedisConnection(createConnection, timeout),
      prepare: async connection => {
        // A server that accepts the connection may still refuse commands, for lack of a password, or
        // the key may have another type. Find out before the first append does.
        await connection.send(['XREVRANGE', key, '+', '-', 'COUNT', '1'], timeout)
      },
      use: async (connection, onHealthy) => {
        if (this.#isReadOnly) this.#onHealthy = onHealthy
        else onHealthy()
        this.#setUp('commands', true)
        throw await connection.closed
      },
      onFail: error => this.#onFail('commands', error),
    })
  }

  get foreign(): number {
    return this.#tail?.foreign ?? 0
  }

  async open(sink: LogSink): Promise<void> {
    if (this.#health !== undefined)
      throw new TypeError('redisLog(): a log can be opened once; create one for each pool')
    if (this.#closing) throw downError('cannot open', 'the log was closed')
    this.#health = new Health(sink)
    const { createConnection, timeout } = this.#options
    return new Promise(resolve => {
      const tail = new Tail({
        ...this.#options,
        sink: {
          reset: (window, reason) => {
            this.#forgetRead(window)
            sink.reset(window, reason)
            resolve()
          },
          append: entries => {
            this.#forgetRead(entries)
            sink.append(entries)
          },
        },
        mark: async connection => {
          const mark = { nonce: this.#nonce(), target: '', frame: '' }
          await connection.send(this.#xadd(mark), timeout)
        },
      })
      this.#tail = tail
      this.#tailConnection = new ManagedConnection({
        create: () => new RedisConnection(createConnection, timeout),
        use: (connection, onHealthy) =>
          tail.follow(connection, () => {
            onHealthy()
            this.#setUp('tail', true)
          }),
        onFail: error => {
          tail.rejectWaiters(error)
          this.#onFail('tail', error)
        },
      })
      this.#commands.open()
      this.#tailConnection.open()
    })
  }

  append(entry: Omit<Entry, 'id'>): Promise<string> {
    return this.#pending.add(this.#append(entry))
  }

  compare(a: string, b: string): number {
    return compareIds(a, b)
  }

  async barrier(): Promise<string | null> {
    const { key, timeout } = this.#options
    try {
      const connection = await this.#commands.get()
      const last = ['XREVRANGE', key, '+', '-', 'COUNT', '1']
      const [row] = (await connection.send(last, timeout)) as Row[]
      const tail = this.#tail as Tail
      if (!this.#isUp.tail) throw new Error('the connection that reads the stream is lost')
      // The last row may be foreign or a repetition, which readers never receive, so resolve to the
      // last entry up to it.
      return row === undefined ? null : await tail.whenRead(row[0])
    } catch (error) {
      throw downError('the last id cannot be read', error)
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const stopped = this.#tailConnection?.close()
    this.#tail?.rejectWaiters(new Error('the log is closed'))
    // Appends under way still get their reply or their timeout.
    await this.#pending.settled()
    await Promise.all([stopped, this.#commands.close()])
  }

  async #append(entry: Omit<Entry, 'id'>): Promise<string> {
    const { nonce } = entry
    checkNonce(nonce)
    if (this.#closing) throw downError('not stored', 'the log is closed')
    const known = this.#tail?.idOf(nonce) ?? this.#unread.get(nonce)
    // With `wait`, an entry that readers already have may still lack its replicas.
    const isEnough = this.#options.wait === undefined || !this.#uncertain.has(nonce)
    if (known !== undefined && isEnough) return known
    const rowId = await this.#add(entry)
    const id = `${rowId}-${nonce}`
    if (this.#uncertain.has(nonce)) {
      // If the first attempt was stored, readers know the entry by the id of that row.
      await this.#whenRead(rowId)
      this.#uncertain.delete(nonce)
    }
    const read = this.#tail?.idOf(nonce)
    if (read !== undefined) return read
    this.#unread.set(nonce, id)
    forgetOldest(this.#unread, this.#options.maxEntries)
    return id
  }

  /**
   * Resolves once every row up to this one was read. The connection that reads may be lost meanwhile, likely
   * together with the reply that made the append uncertain: the next one reads on. Gives up after `timeout` ms.
   */
  async #whenRead(rowId: string): Promise<void> {
    const tail = this.#tail as Tail
    const end = performance.now() + this.#options.timeout
    while (!this.#closing && performance.now() < end) {
      const isRead = await tail.whenRead(rowId).then(
        () => true,
        () => false,
      )
      if (isRead) return
    }
  }

  async #add(entry: Omit<Entry, 'id'>): Promise<string> {
    const { timeout, wait } = this.#options
    let connection: RedisConnection
    try {
      connection = await this.#commands.get()
    } catch (error) {
      throw downError('not stored', error)
    }
    try {
      const added = connection.send(this.#xadd(entry), timeout)
      if (wait === undefined) return this.#acknowledged(await added)
      const command = ['WAIT', String(wait.replicas), String(wait.timeout)]
      const waited = connection.send(command, timeout + wait.timeout)
      const [first, second] = await Promise.allSettled([added, waited])
      if (first.status === 'rejected') throw first.reason
      const replicas = second.status === 'rejected' ? second.reason : Number(second.value)
      if (typeof replicas === 'number' && replicas >= wait.replicas)
        return this.#acknowledged(first.value)
      this.#markUncertain(entry.nonce)
      throw uncertainError(
        typeof replicas === 'number'
          ? new Error(`${replicas} of ${wait.replicas} replicas have it after ${wait.timeout} ms`)
          : replicas,
      )
    } catch (error) {
      if (error instanceof SseError) throw error
      // This server became a replica. Reconnect: the address may lead to the new primary by now.
      if (errorKind(error) === 'READONLY') {
        this.#isReadOnly = true
        this.#commands.retire(connection, error as Error, this.#pending.settled())
      }
      if (isErrorReply(error) || isUnsent(error)) throw downError('not stored', error)
      this.#markUncertain(entry.nonce)
      throw uncertainError(error)
    }
  }

  #acknowledged(reply: unknown): string {
    if (this.#isReadOnly) this.#onHealthy()
    this.#isReadOnly = false
    return reply as string
  }

  #xadd(entry: Omit<Entry, 'id'>): string[] {
    const { key, maxEntries } = this.#options
    return ['XADD', key, 'MAXLEN', '~', String(maxEntries), '*', ...toFields(entry)]
  }

  #markUncertain(nonce: string): void {
    this.#uncertain.add(nonce)
    forgetOldest(this.#uncertain, this.#options.maxEntries)
  }

  #forgetRead(entries: readonly Entry[]): void {
    if (this.#unread.size === 0) return
    for (const { nonce } of entries) this.#unread.delete(nonce)
  }

  #onFail(connection: 'commands' | 'tail', error: unknown): void {
    this.#health?.report(errorKind(error), downError('Redis is out of reach', error))
    this.#setUp(connection, false)
  }

  #setUp(connection: 'commands' | 'tail', isUp: boolean): void {
    this.#isUp[connection] = isUp
    this.#health?.setUp(this.#isUp.commands && this.#isUp.tail)
  }
}
