/**
 * Runs in tables of PostgreSQL 12 or newer, shared by all processes that use the same tables. What a method does stands
 * in the function of the database that it calls (run-schema.ts).
 */
import { createHash } from 'node:crypto'
import { newGeneration } from '../lib/random.js'
import { ManagedConnection } from '../log/connection.js'
import type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunPage,
  RunRecord,
  RunStore,
} from '../log/run-store.js'
import { Pending } from '../log/shared.js'
import { escapeText, unescapeText } from '../log/table.js'
import type { RunListener } from '../log/watcher.js'
import { PgConnection } from './connection.js'
import {
  errorKind,
  isErrorReply,
  isRepeatable,
  runsDownError,
  runsUncertainError,
} from './errors.js'
import {
  type PostgresRunsOptions,
  type ResolvedRunsOptions,
  resolveRunsOptions,
} from './options.js'
import { RunAppender, type RunCall } from './run-appender.js'
import { createRunsTableSql, type RunNames, runNamesOf } from './run-schema.js'
import { RunWatch } from './run-watch.js'

/** How often expired and deleted runs are removed. None is ever shown, removed or not. */
const SWEEP_INTERVAL_MS = 30_000

/** For how long what is not needed is kept all the same; longer than a transaction of ours can take to commit. */
const SWEEP_DELAY_MS = 10_000

/** How often a call that PostgreSQL has rolled back for another's sake is made again. */
const ATTEMPTS = 5

/** The store that {@link postgresRuns} returns; pass it to `new Runs({ store })` or `durableStreams({ store })`. */
export interface PostgresRuns extends RunStore {
  /**
   * Creates the tables and functions if they are missing, and updates the functions. Safe to call from
   * several processes at once. Rejects with `ERR_SSE_LOG_DOWN`.
   */
  createTable(): Promise<void>
}

/**
 * Stores runs in PostgreSQL, so that all processes with the same `table` share them. The given pool is only a template:
 * the store opens connections of its own with the pool's options, one for calls and one for `watch`, each when it is
 * first needed. It reconnects them when they are lost and ends them on `close()`.
 *
 * Each call is one statement, and appends that come together are one: an answer of a model costs a commit per
 * `linger`, and many answers share it. The processes delete expired and deleted runs every 30 seconds, about 1000 rows
 * per statement. Reading keeps a run from expiring for up to 5 % longer than its `ttl`, and at most a minute longer, so
 * that not every read has to write. Texts are stored as UTF-8, so a lone surrogate becomes U+FFFD.
 *
 * A call rejects with an `SseError`: `ERR_SSE_LOG_DOWN` if nothing was stored, `ERR_SSE_LOG_UNCERTAIN` if the reply was
 * lost.
 *
 * @example
 * ```js
 * import pg from 'pg'
 * import { postgresRuns } from 'koa-sse-pool/postgres'
 *
 * const db = new pg.Pool({ connectionString: process.env.DATABASE_URL })
 * const store = postgresRuns({ pool: db, table: 'app_runs' })
 * await store.createTable()
 * ```
 *
 * @throws TypeError that names the option if one is missing, unknown or invalid.
 */
export function postgresRuns(options: PostgresRunsOptions): PostgresRuns {
  return new PostgresTableRuns(options)
}

/** A record as the functions return it. */
type RecordReply = readonly [
  generation: string,
  meta: string,
  status: RunRecord['status'],
  ending: string,
  start: number,
  tail: number,
  createdAt: number,
  endedAt: number | null,
  ttl: number | null,
  expiresAt: number | null,
  leaseLeft: number | null,
]

class PostgresTableRuns implements PostgresRuns {
  readonly linger: number
  readonly #options: ResolvedRunsOptions
  readonly #names: RunNames
  readonly #commands: ManagedConnection<PgConnection>
  readonly #appender: RunAppender
  readonly #watch: RunWatch
  readonly #pending = new Pending<unknown>()
  #sweepTimer: NodeJS.Timeout | undefined
  #sweeping: Promise<void> | undefined
  #hasWarned = false
  #closing: Promise<void> | undefined

  constructor(options: PostgresRunsOptions) {
    this.#options = resolveRunsOptions(options)
    const { createClient, timeout, table, linger, pollMs } = this.#options
    this.#names = runNamesOf(table)
    this.linger = linger
    this.#commands = new ManagedConnection({
      create: () => new PgConnection(createClient, timeout),
      use: async (connection, onHealthy) => {
        onHealthy()
        throw await connection.closed
      },
      // The next call rejects with the error.
      onFail: () => {},
    })
    this.#appender = new RunAppender(calls => this.#appendAll(calls))
    this.#watch = new RunWatch({ createClient, timeout, pollMs, names: this.#names })
  }

  async createTable(): Promise<void> {
    const { createClient, timeout, table } = this.#options
    const connection = new PgConnection(createClient, timeout)
    try {
      await connection.connect()
      // Without parameters, all statements are one transaction.
      await connection.query(createRunsTableSql(table))
    } catch (error) {
      throw runsDownError('the tables were not created', error)
    } finally {
      connection.destroy(new Error('the tables are created'))
    }
  }

  async create(id: string, creation: RunCreation): Promise<RunCreated> {
    const { generation = newGeneration(), meta, lease, entries = [], ending, fork } = creation
    const given = {
      generation: escaped(generation),
      meta: escaped(meta),
      ttl: whole(creation.ttl),
      expires_at: whole(creation.expiresAt),
      remember: whole(creation.remember),
      lease_ms: whole(lease?.ms),
      lease_ending: escaped(lease?.ending),
      max_length: whole(creation.maxLength),
      ending: escaped(ending),
      source: fork && keyOf(fork.from),
      forked_at: fork?.at,
    }
    const { texts, lengths } = textsOf(entries)
    const args = [keyOf(id), JSON.stringify(given), texts, lengths]
    const reply = await this.#change('create', args)
    const [outcome, run] = JSON.parse(reply as string) as [RunCreated['outcome'], RecordReply?]
    return (run === undefined ? { outcome } : { outcome, run: toRecord(run) }) as RunCreated
  }

  async append(id: string, addition: RunAddition): Promise<RunAppended> {
    const { entries, ending, generation, producer, order } = addition
    const fields = {
      id: keyOf(id),
      generation: escaped(generation),
      ending: escaped(ending),
      producer: producer && keyOf(producer.id),
      epoch: producer?.epoch,
      seq: producer?.seq,
      // Hexadecimal digits compare like the bytes, and there is no NUL among them.
      append_order: order === undefined ? undefined : Buffer.from(order).toString('hex'),
    }
    const reply = await this.#call(() => this.#appender.append({ fields, ...textsOf(entries) }))
    type Reply = [RunAppended['outcome'], RecordReply | null, number?, number?]
    const [outcome, run, epoch, seq] = JSON.parse(reply) as Reply
    return {
      outcome,
      run: run === null ? undefined : toRecord(run),
      producer: typeof epoch === 'number' ? { epoch, seq: seq as number } : undefined,
    }
  }

  async read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined> {
    const args = [after, limits.entries, limits.length].map(whole)
    const rows = await this.#look('read', [keyOf(id), ...args.map(toLimit)])
    const [first, ...entries] = rows as string[]
    if (first === undefined) return undefined
    const [run, from] = JSON.parse(first) as [RecordReply, number]
    return { run: toRecord(run), after: from, entries: entries.map(unescapeText) }
  }

  async get(id: string): Promise<RunRecord | undefined> {
    const [reply] = await this.#look('get', [keyOf(id)])
    return toRecordIfAny(reply)
  }

  async renew(id: string): Promise<RunRecord | undefined> {
    return toRecordIfAny(await this.#change('renew', [keyOf(id)]))
  }

  async delete(id: string): Promise<RunRecord | undefined> {
    return toRecordIfAny(await this.#change('delete', [keyOf(id)]))
  }

  watch(id: string, listener: RunListener): () => void {
    return this.#watch.watch(keyOf(id), listener)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#sweepTimer)
    const stopped = this.#watch.close()
    // Calls under way still get their reply or their timeout.
    await Promise.all([this.#pending.settled(), this.#sweeping])
    await Promise.all([stopped, this.#commands.close()])
  }

  /** Calls a function that changes the run. */
  async #change(name: 'create' | 'renew' | 'delete', args: unknown[]): Promise<unknown> {
    const [reply] = await this.#call(() =>
      this.#query(NOTHING_STORED, UNCERTAIN[name], this.#statement(name, args), args),
    )
    return reply
  }

  #look(name: 'read' | 'get', args: unknown[]): Promise<unknown[]> {
    return this.#call(() =>
      this.#query('the run cannot be read', undefined, this.#statement(name, args), args),
    )
  }

  #statement(name: string, args: readonly unknown[]): string {
    return `SELECT * FROM ${this.#names.of(name)}(${args.map((_, index) => `$${index + 1}`)})`
  }

  async #call<T>(make: () => Promise<T>): Promise<T> {
    if (this.#closing) throw runsDownError(NOTHING_STORED, new Error('the store is closed'))
    this.#sweepTimer ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL_MS).unref()
    return (await this.#pending.add(make())) as T
  }

  async #appendAll(calls: readonly RunCall[]): Promise<void> {
    const { of } = this.#names
    const args = [
      JSON.stringify(calls.map(({ fields }, number) => ({ number, ...fields }))),
      calls.flatMap(({ texts }, number) => texts.map(() => number)),
      calls.flatMap(({ texts }) => texts),
      calls.flatMap(({ lengths }) => lengths),
    ]
    const statement = `SELECT call_number || ' ' || reply FROM ${of('append')}($1, $2, $3, $4)`
    const replies = await this.#query(NOTHING_STORED, UNCERTAIN.append, statement, args)
    for (const reply of replies as string[]) {
      const space = reply.indexOf(' ')
      calls[Number(reply.slice(0, space))]?.resolve(reply.slice(space + 1))
    }
  }

  /**
   * Resolves to the first column.
   *
   * @param down what to say if nothing was stored
   * @param uncertain what to say if the reply is lost; undefined if the call stores nothing
   */
  async #query(
    down: string,
    uncertain: string | undefined,
    statement: string,
    args: unknown[],
  ): Promise<unknown[]> {
    for (let attempt = 1; ; attempt++) {
      let connection: PgConnection
      try {
        this.#commands.open()
        connection = await this.#commands.get()
      } catch (error) {
        throw runsDownError(down, error)
      }
      try {
        return (await connection.query(statement, args)).map(([value]) => value)
      } catch (error) {
        if (isRepeatable(error) && attempt < ATTEMPTS) continue
        // This server became a standby. Reconnect: the address may lead to the new primary by now.
        if (errorKind(error) === '25006') {
          this.#commands.retire(connection, error as Error, this.#pending.settled())
        }
        const isDown = uncertain === undefined || isErrorReply(error)
        throw isDown ? runsDownError(down, error) : runsUncertainError(uncertain, error)
      }
    }
  }

  /** Deletes what is not needed any more, in small steps. */
  #sweep(): void {
    this.#sweeping ??= (async () => {
      const connection = await this.#commands.get()
      const statement = `SELECT ${this.#names.of('sweep')}($1)`
      while (!this.#closing) {
        const [row] = await connection.query(statement, [SWEEP_DELAY_MS])
        if (Number(row?.[0]) === 0) return
      }
    })()
      .catch(error => {
        // An outage passes, but without a permission the tables would grow, and no call would say so.
        if (!isErrorReply(error) || errorKind(error) === '25006' || this.#hasWarned) return
        this.#hasWarned = true
        process.emitWarning(runsDownError('cannot delete expired runs', error).message)
      })
      .finally(() => {
        this.#sweeping = undefined
      })
  }
}

const NOTHING_STORED = 'nothing was stored'

/** What to say if the reply is lost. */
const UNCERTAIN = {
  create: 'the run may or may not have begun',
  append: 'the entries may or may not be stored',
  renew: 'the lease may or may not be renewed',
  delete: 'the run may or may not be deleted',
}

/** An index of PostgreSQL holds texts of up to about 2700 bytes. */
const MAX_KEY_BYTES = 1000

/** How an id is stored. No escaped text begins with this control character and `#`. */
function keyOf(id: string): string {
  const key = escapeText(wellFormed(id))
  if (key.length <= MAX_KEY_BYTES / 3 || Buffer.byteLength(key) <= MAX_KEY_BYTES) return key
  return `\u0001#${createHash('sha256').update(key).digest('hex')}`
}

/** Entries as they are stored. PostgreSQL does not count characters as JavaScript does. */
function textsOf(entries: readonly string[]): { texts: string[]; lengths: number[] } {
  return {
    texts: entries.map(entry => escaped(entry)),
    lengths: entries.map(entry => entry.length),
  }
}

function escaped<T extends string | undefined>(text: T): T {
  return (text === undefined ? text : escapeText(wellFormed(text))) as T
}

/** With U+FFFD for lone surrogates: the JSON decoder of PostgreSQL rejects them. */
function wellFormed(text: string): string {
  return /[\ud800-\udfff]/.test(text) ? Buffer.from(text).toString() : text
}

/** A whole number; undefined for none and for infinity, which JSON lacks. */
function whole(limit: number | undefined): number | undefined {
  if (limit === undefined || !Number.isFinite(limit)) return undefined
  return Math.min(Math.ceil(limit), Number.MAX_SAFE_INTEGER)
}

function toLimit(limit: number | undefined): number {
  return limit ?? Number.MAX_SAFE_INTEGER
}

function toRecord(reply: RecordReply): RunRecord {
  const [generation, meta, status, ending, start, tail, createdAt, ...times] = reply
  const [endedAt, ttl, expiresAt, leaseLeft] = times.map(time => time ?? undefined)
  return {
    generation: unescapeText(generation),
    meta: unescapeText(meta),
    status,
    ending: unescapeText(ending),
    start,
    tail,
    createdAt,
    endedAt,
    ttl,
    expiresAt,
    leaseLeft,
  }
}

function toRecordIfAny(reply: unknown): RunRecord | undefined {
  return typeof reply === 'string' ? toRecord(JSON.parse(reply)) : undefined
}
