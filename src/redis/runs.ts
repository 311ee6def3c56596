/** Runs in Redis, shared by all processes that use the same key. Requires Redis 5 or newer. */
import { createHash } from 'node:crypto'
import { newGeneration } from '../lib/random.js'
import { ManagedConnection } from '../log/connection.js'
import type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunNews,
  RunPage,
  RunRecord,
  RunStore,
} from '../log/run-store.js'
import { Pending } from '../log/shared.js'
import type { RunListener } from '../log/watcher.js'
import { RedisConnection } from './connection.js'
import { errorKind, isErrorReply, isUnsent, runsDownError, runsUncertainError } from './errors.js'
import { type RedisRunsOptions, type ResolvedRunsOptions, resolveRunsOptions } from './options.js'
import { SCRIPTS, type ScriptName } from './run-scripts.js'
import { RunWatch } from './run-watch.js'

const SHA1 = Object.fromEntries(
  Object.entries(SCRIPTS).map(([name, script]) => [
    name,
    createHash('sha1').update(script).digest('hex'),
  ]),
) as Record<ScriptName, string>

/** A record as the scripts return it; `''` for what it does not have. */
type RecordReply = readonly string[]

/**
 * Stores runs in Redis, so that all processes with the same `key` share them. The given client is only a
 * template: the store opens connections of its own with the client's options, one for commands and one for
 * `watch`, each when it is first needed. It reconnects them when they are lost and ends them on `close()`.
 *
 * Each call is one command, a Lua script. A run's keys expire in Redis by themselves. Texts are stored as UTF-8,
 * so a lone surrogate becomes U+FFFD. Redis must not evict keys (`maxmemory-policy noeviction`).
 *
 * @example
 * ```js
 * import { createClient } from 'redis' // or: import { Redis } from 'ioredis'
 * import { redisRuns } from 'koa-sse-pool/redis'
 *
 * const client = createClient({ url: process.env.REDIS_URL }) // need not be connected
 * const store = redisRuns({ client, key: 'app:runs' })
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid.
 */
export function redisRuns(options: RedisRunsOptions): RunStore {
  return new RedisRuns(options)
}

class RedisRuns implements RunStore {
  readonly linger: number
  readonly #options: ResolvedRunsOptions
  readonly #commands: ManagedConnection<RedisConnection>
  readonly #watch: RunWatch
  /** The scripts that each connection has sent as a whole, so that Redis knows them. */
  readonly #known = new WeakMap<RedisConnection, Set<ScriptName>>()
  readonly #pending = new Pending<unknown>()
  #closing: Promise<void> | undefined

  constructor(options: RedisRunsOptions) {
    this.#options = resolveRunsOptions(options)
    const { createConnection, timeout, channels, prefix, linger } = this.#options
    this.linger = linger
    this.#commands = new ManagedConnection({
      create: () => new RedisConnection(createConnection, timeout),
      prepare: async connection => {
        // A server that accepts the connection may still refuse commands, and a user may lack the permission
        // for channels, which the scripts would not notice.
        await connection.send(['EXISTS', `${prefix}run:`], timeout)
        await connection.send(['PUBLISH', channels, ''], timeout)
      },
      use: async (connection, onHealthy) => {
        onHealthy()
        throw await connection.closed
      },
      // The next call rejects with the error.
      onFail: () => {},
    })
    this.#watch = new RunWatch({
      createConnection,
      timeout,
      channels,
      parse: toNews,
    })
  }

  async create(id: string, creation: RunCreation): Promise<RunCreated> {
    const {
      generation = newGeneration(),
      meta,
      ttl,
      expiresAt,
      remember,
      lease,
      maxLength,
      entries,
      ending,
      fork,
    } = creation
    const options = {
      generation,
      meta: wellFormed(meta),
      ttl: finite(ttl),
      expiresAt: finite(expiresAt),
      remember: finite(remember),
      leaseMs: finite(lease?.ms),
      leaseEnding: wellFormed(lease?.ending),
      maxLength: finite(maxLength),
      ending: wellFormed(ending),
      from: wellFormed(fork?.from),
      at: fork?.at,
    }
    const args = [JSON.stringify(options), ...withLengths(entries ?? [])]
    const reply = await this.#change('create', id, args, 'the run may or may not have begun')
    const [outcome, run] = reply as [RunCreated['outcome'], RecordReply?]
    return (run === undefined ? { outcome } : { outcome, run: toRecord(run) }) as RunCreated
  }

  async append(id: string, addition: RunAddition): Promise<RunAppended> {
    const { entries, ending, generation, producer, order } = addition
    const options = {
      ending: wellFormed(ending),
      generation: wellFormed(generation),
      producer: producer && { ...producer, id: wellFormed(producer.id) },
      order: wellFormed(order),
    }
    const args = [JSON.stringify(options), ...withLengths(entries)]
    const reply = await this.#change('append', id, args, 'the entries may or may not be stored')
    const [outcome, run, epoch = '', seq = ''] = reply as [
      RunAppended['outcome'],
      RecordReply?,
      string?,
      string?,
    ]
    return {
      outcome,
      run: run && toRecord(run),
      producer: epoch === '' ? undefined : { epoch: Number(epoch), seq: Number(seq) },
    }
  }

  async read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined> {
    const args = [after, limits.entries, limits.length].map(number =>
      String(Math.min(number, Number.MAX_SAFE_INTEGER)),
    )
    const reply = await this.#look('read', id, args)
    if (reply === null) return undefined
    const [run, from, entries] = reply as [RecordReply, string, string[]]
    return { run: toRecord(run), after: Number(from), entries }
  }

  async get(id: string): Promise<RunRecord | undefined> {
    return toRecordIfAny(await this.#look('get', id, []))
  }

  async renew(id: string): Promise<RunRecord | undefined> {
    const uncertain = 'the lease may or may not be renewed'
    return toRecordIfAny(await this.#change('renew', id, [], uncertain))
  }

  async delete(id: string): Promise<RunRecord | undefined> {
    const uncertain = 'the run may or may not be deleted'
    return toRecordIfAny(await this.#change('delete', id, [], uncertain))
  }

  watch(id: string, listener: RunListener): () => void {
    return this.#watch.watch(wellFormed(id), listener)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const stopped = this.#watch.close()
    // Calls under way still get their reply or their timeout.
    await this.#pending.settled()
    await Promise.all([stopped, this.#commands.close()])
  }

  /** Runs a script that changes the run. @param uncertain what to say if the reply is lost */
  #change(name: ScriptName, id: string, args: string[], uncertain: string): Promise<unknown> {
    return this.#run(name, id, args, 'nothing was stored', uncertain)
  }

  #look(name: ScriptName, id: string, args: string[]): Promise<unknown> {
    return this.#run(name, id, args, 'the run cannot be read', undefined)
  }

  async #run(
    name: ScriptName,
    id: string,
    args: string[],
    down: string,
    uncertain: string | undefined,
  ): Promise<unknown> {
    if (this.#closing) throw runsDownError(down, new Error('the store is closed'))
    return this.#pending.add(this.#evaluate(name, id, args, down, uncertain))
  }

  async #evaluate(
    name: ScriptName,
    id: string,
    args: string[],
    down: string,
    uncertain: string | undefined,
  ): Promise<unknown> {
    let connection: RedisConnection
    try {
      this.#commands.open()
      connection = await this.#commands.get()
    } catch (error) {
      throw runsDownError(down, error)
    }
    try {
      return await this.#send(connection, name, id, args)
    } catch (error) {
      // This server became a replica. Reconnect: the address may lead to the new primary by now.
      if (errorKind(error) === 'READONLY') {
        this.#commands.retire(connection, error as Error, this.#pending.settled())
      }
      const isDown = uncertain === undefined || isErrorReply(error) || isUnsent(error)
      throw isDown ? runsDownError(down, error) : runsUncertainError(uncertain, error)
    }
  }

  /**
   * The first call of a script on a connection sends its text, later ones its hash. If all sent the hash, the first
   * would have to be repeated after a NOSCRIPT, and calls made meanwhile could overtake it.
   */
  async #send(
    connection: RedisConnection,
    name: ScriptName,
    id: string,
    args: string[],
  ): Promise<unknown> {
    const { prefix, channels, timeout } = this.#options
    const known = this.#known.get(connection) ?? new Set()
    this.#known.set(connection, known)
    const shared = ['1', `${prefix}run:${id}`, prefix, channels, id, ...args]
    const whole = ['EVAL', SCRIPTS[name], ...shared]
    if (!known.has(name)) {
      known.add(name)
      return connection.send(whole, timeout)
    }
    try {
      return await connection.send(['EVALSHA', SHA1[name], ...shared], timeout)
    } catch (error) {
      // Only after a SCRIPT FLUSH.
      if (errorKind(error) !== 'NOSCRIPT') throw error
      return connection.send(whole, timeout)
    }
  }
}

/** How many texts a record is. */
const RECORD_LENGTH = 11

function toRecord(reply: RecordReply): RunRecord {
  const [generation = '', meta = '', status, ending = '', start, tail, createdAt, ...rest] = reply
  const [endedAt, ttl, expiresAt, leaseLeft] = rest
    .slice(0, 4)
    .map(text => (text === '' ? undefined : Number(text)))
  return {
    generation,
    meta,
    status: status as RunRecord['status'],
    ending,
    start: Number(start),
    tail: Number(tail),
    createdAt: Number(createdAt),
    endedAt,
    ttl,
    expiresAt,
    leaseLeft,
  }
}

/** Undefined for a message that another program has published. */
function toNews(message: string): RunNews | undefined {
  try {
    const reply = JSON.parse(message) as string[]
    if (reply.length <= RECORD_LENGTH) return undefined
    const entries = reply.slice(RECORD_LENGTH + 1)
    return { run: toRecord(reply), after: Number(reply[RECORD_LENGTH]), entries }
  } catch {
    return undefined
  }
}

function toRecordIfAny(reply: unknown): RunRecord | undefined {
  return reply === null ? undefined : toRecord(reply as RecordReply)
}

function withLengths(entries: readonly string[]): string[] {
  return entries.flatMap(entry => [entry, String(entry.length)])
}

/** JSON has no Infinity. */
function finite(limit: number | undefined): number | undefined {
  return Number.isFinite(limit) ? limit : undefined
}

/** With U+FFFD for lone surrogates: the JSON decoder of Redis rejects them. */
function wellFormed<T extends string | undefined>(text: T): T {
  return (text === undefined ? text : Buffer.from(text).toString()) as T
}
