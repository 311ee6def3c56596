/** The options of `postgresLog()` and `postgresRuns()`: their meaning, defaults and checks. */
import { isWhole, MAX_DELAY, MIB, type Rule, resolve, timeoutMs, whole } from '../lib/rules.js'
import { type ForeignOptions, refuseForeignOptions } from '../log/shared.js'
import type { CreateClient, PgClient } from './connection.js'

/** A `Pool` of the package `pg`. */
export interface PgPool {
  readonly options: object
  connect(): Promise<unknown>
}

/** The options of {@link postgresLog}. */
export interface PostgresLogOptions {
  /**
   * A pool made by `new Pool()` of the package [`pg`](https://node-postgres.com). Only its options are used,
   * for two connections of the log's own: the pool itself is never sent a query and never closed.
   */
  pool: PgPool
  /**
   * The table of the entries: `name` or `schema.name`, of letters, digits and `_`, the name at most 40
   * characters long. Use one per pool, and the same in all of its processes. Create it by
   * {@link PostgresLog.createTable} or with the SQL of {@link createTableSql}.
   */
  table: string
  /**
   * How many entries are kept, from 1 to 1,000,000; default 10,000. It is also the most that a process reads
   * when it starts. Clients whose cursor was deleted get a gap. Use the same limits in all processes.
   */
  maxEntries?: number | undefined
  /** How many bytes of entries are kept, about; default 256 Mi (268,435,456). */
  maxBytes?: number | undefined
  /** For how many ms an entry is kept at least, from 1 to 2,147,483,647 (about 24 days); default: no limit. */
  maxAge?: number | undefined
  /**
   * How many bytes of entries a process reads at most when it starts; default 32 Mi (33,554,432). Clients
   * whose cursor is older get a gap from this process. The newest entry is always read.
   */
  windowBytes?: number | undefined
  /**
   * How long to wait for a connection or a reply, in ms, from 1 to 3,600,000; default 5000. Beyond it the
   * connection is closed and opened again. Appends without a reply reject with `ERR_SSE_LOG_UNCERTAIN`.
   */
  timeout?: number | undefined
  /**
   * How often the table is read without a `NOTIFY`, in ms, from 1 to 3,600,000; default 1000. It is the most
   * that an event is late when a `NOTIFY` is lost, and the usual delay behind PgBouncer in transaction mode,
   * which passes none on.
   */
  pollMs?: number | undefined
}

export interface ResolvedOptions {
  readonly createClient: CreateClient
  readonly table: string
  readonly maxEntries: number
  readonly maxBytes: number
  readonly maxAge: number | undefined
  readonly windowBytes: number
  readonly timeout: number
  readonly pollMs: number
}

interface RealPool {
  readonly options: { readonly password?: unknown }
  readonly Client: new (config: object) => PgClient
}

const isPool = (value: unknown): value is RealPool => {
  const { options, Client } = Object(value)
  return typeof options === 'object' && options !== null && typeof Client === 'function'
}

const TABLE = /^(?:[A-Za-z_]\w{0,62}\.)?[A-Za-z_]\w{0,39}$/

const RULES: Record<keyof PostgresLogOptions, Rule> = {
  pool: { expected: "a pool, made by new Pool() of 'pg'", accepts: isPool },
  table: {
    expected:
      "the name of the table, such as 'app_events' or 'app.events', of letters, digits and _",
    accepts: value => typeof value === 'string' && TABLE.test(value),
  },
  maxEntries: whole(10_000, 1_000_000),
  maxBytes: whole(256 * MIB, Number.MAX_SAFE_INTEGER),
  maxAge: {
    expected: `milliseconds, a whole number from 1 to ${MAX_DELAY}`,
    accepts: value => value === undefined || whole(undefined, MAX_DELAY).accepts(value),
  },
  windowBytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
  pollMs: timeoutMs(1000),
}

const WITH_POOL = "postgresLog({ pool: new Pool({ connectionString }), table: 'app_events' })"

/** What a pool is created with. */
const OF_CLIENTS = ['url', 'connectionstring', 'host', 'port', 'user', 'password', 'database']

const FOREIGN_OPTIONS: ForeignOptions = [
  [OF_CLIENTS, `write ${WITH_POOL}`],
  [['client', 'connection', 'pg', 'db'], `did you mean "pool"? Write ${WITH_POOL}`],
  [['key', 'stream', 'name', 'tablename'], 'did you mean "table"?'],
  [['schema'], "write it before the name: { table: 'schema.name' }"],
  [['ttl', 'retention'], 'did you mean "maxAge"?'],
  [['limit', 'maxlen', 'events'], 'did you mean "maxEntries"?'],
  [['poll', 'pollinterval', 'interval'], 'did you mean "pollMs"?'],
]

/** @throws TypeError that names the option if one is missing, unknown or invalid. */
export function resolveOptions(given: PostgresLogOptions): ResolvedOptions {
  refuseOtherThanOptions('postgresLog()', given, WITH_POOL)
  refuseForeignOptions('postgresLog()', given, FOREIGN_OPTIONS)
  const { pool, ...resolved } = resolve('postgresLog()', RULES, given)
  return { ...resolved, createClient: clientsLike(pool as RealPool) } as ResolvedOptions
}

/** The options of {@link postgresRuns}. */
export interface PostgresRunsOptions {
  /**
   * A pool made by `new Pool()` of the package [`pg`](https://node-postgres.com). Only its options are used,
   * for at most two connections of the store's own: the pool itself is never sent a query and never closed.
   */
  pool: PgPool
  /**
   * The table of the runs: `name` or `schema.name`, of letters, digits and `_`, the name at most 40 characters
   * long. The other tables begin with the same name. Use the same in all processes, and not that of a log. Create
   * it by {@link PostgresRuns.createTable} or with the SQL of {@link createRunsTableSql}.
   */
  table: string
  /**
   * How long to wait for a connection or a reply, in ms, from 1 to 3,600,000; default 5000. Beyond it the
   * connection is closed and opened again, and the calls without a reply reject.
   */
  timeout?: number | undefined
  /**
   * How long a producer's events may wait for more before they are stored together, in ms, from 0 to 10,000;
   * default 60. It makes an answer of a model cost one append per 60 ms instead of one per token.
   */
  linger?: number | undefined
  /**
   * How often a process looks for changes of the runs that it watches, in ms, from 1 to 3,600,000; default 1000. It
   * is the most that readers are late when a `NOTIFY` is lost, and the usual delay behind PgBouncer in transaction
   * mode, which passes none on.
   */
  pollMs?: number | undefined
}

export interface ResolvedRunsOptions {
  readonly createClient: CreateClient
  readonly table: string
  readonly timeout: number
  readonly linger: number
  readonly pollMs: number
}

const RUNS_RULES: Record<keyof PostgresRunsOptions, Rule> = {
  pool: RULES.pool,
  table: {
    ...RULES.table,
    expected: "the name of the table, such as 'app_runs' or 'app.runs', of letters, digits and _",
  },
  timeout: RULES.timeout,
  linger: {
    default: 60,
    expected: 'milliseconds, a whole number from 0 to 10000',
    accepts: value => isWhole(value, 0, 10_000),
  },
  pollMs: RULES.pollMs,
}

const RUNS_WITH_POOL = "postgresRuns({ pool: new Pool({ connectionString }), table: 'app_runs' })"

const RUNS_FOREIGN_OPTIONS: ForeignOptions = [
  [OF_CLIENTS, `write ${RUNS_WITH_POOL}`],
  [['client', 'connection', 'pg', 'db'], `did you mean "pool"? Write ${RUNS_WITH_POOL}`],
  [['key', 'stream', 'name', 'tablename', 'prefix'], 'did you mean "table"?'],
  [['schema'], "write it before the name: { table: 'schema.name' }"],
  [['ttl', 'expires', 'lease', 'maxlength'], 'each run has its own: set it where the run begins'],
  [['poll', 'pollinterval', 'interval'], 'did you mean "pollMs"?'],
]

/** @throws TypeError that names the option if one is missing, unknown or invalid. */
export function resolveRunsOptions(given: PostgresRunsOptions): ResolvedRunsOptions {
  refuseOtherThanOptions('postgresRuns()', given, RUNS_WITH_POOL)
  refuseForeignOptions('postgresRuns()', given, RUNS_FOREIGN_OPTIONS)
  const { pool, ...resolved } = resolve('postgresRuns()', RUNS_RULES, given)
  return { ...resolved, createClient: clientsLike(pool as RealPool) } as ResolvedRunsOptions
}

/** Habits of other libraries: the pool itself, or its URL, which may contain a password. */
function refuseOtherThanOptions(where: string, given: unknown, withPool: string): void {
  const isOther = typeof given === 'string' ? 'a string' : isPool(given) ? 'a pool' : ''
  if (isOther === '') return
  throw new TypeError(`${where}: options must be an object; got ${isOther}; write ${withPool}`)
}

function clientsLike({ options, Client }: RealPool): CreateClient {
  return timeout =>
    new Client({
      ...options,
      // The pool hides it from being listed, so that it is not logged.
      password: options.password,
      connectionTimeoutMillis: timeout,
      keepAlive: true,
      // The log has limits of its own; with these, one of its queries would fail without the connection.
      query_timeout: undefined,
      application_name: 'koa-sse-pool',
    })
}
