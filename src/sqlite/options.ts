/** The options of `sqliteLog()`: their meaning, defaults and checks. */
import { resolve as resolvePath } from 'node:path'
import {
  aFunction,
  MAX_DELAY,
  MIB,
  oneOf,
  optional,
  type Rule,
  resolve,
  timeoutMs,
  whole,
} from '../lib/rules.js'
import { type ForeignOptions, refuseForeignOptions } from '../log/shared.js'
import { type Driver, findDriver, type SqliteDatabase } from './driver.js'

/** The options of {@link sqliteRuns}. */
export interface SqliteRunsOptions {
  /** The file of the database, as for {@link sqliteLog}; it may be the same one. */
  path: string
  /**
   * What the names of the tables begin with, which the store creates, of letters, digits and `_`, at most 40
   * characters; default `sse_runs`. Use the same in all processes.
   */
  table?: string | undefined
  /** What a stored entry survives, as for {@link sqliteLog}; default `'normal'`. */
  synchronous?: 'normal' | 'full' | undefined
  /**
   * How long a call waits for another connection that holds the write lock, in ms, from 1 to 3,600,000; default 5000.
   * Beyond it, it rejects with `ERR_SSE_LOG_DOWN`.
   */
  timeout?: number | undefined
  /**
   * How often the file is looked at although the system has not reported a change, in ms, from 1 to 3,600,000;
   * default 1000.
   */
  pollMs?: number | undefined
  /** The class that opens the file, as for {@link sqliteLog}, with the same default. */
  driver?: (new (path: string) => SqliteDatabase) | undefined
}

/** The options of {@link sqliteLog}. */
export interface SqliteLogOptions {
  /**
   * The file of the database, which is created if it is missing; its folder must exist. Processes of one machine
   * that open the same file share the log. It must be on a local disk: SQLite's WAL mode does not work over a
   * network file system.
   */
  path: string
  /**
   * The table of the entries, which the log creates, of letters, digits and `_`, at most 40 characters; default
   * `sse_events`. Use one per pool, and the same in all of its processes.
   */
  table?: string | undefined
  /**
   * What a stored event survives. `'normal'`, the default: the end of the process, also by `kill -9`; a power failure
   * or a crash of the system may lose the last ones, which is a gap for their readers. `'full'`: these too, for
   * an fsync per commit. See https://www.sqlite.org/pragma.html#pragma_synchronous
   */
  synchronous?: 'normal' | 'full' | undefined
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
   * How long an append waits for another connection that holds the write lock, in ms, from 1 to 3,600,000; default
   * 5000. Beyond it, it rejects with `ERR_SSE_LOG_DOWN`.
   */
  timeout?: number | undefined
  /**
   * How often the file is looked at although the system has not reported a change, in ms, from 1 to 3,600,000;
   * default 1000. It is the most that an event of another process is late where Node's `fs.watch` does not work.
   */
  pollMs?: number | undefined
  /**
   * The class that opens the file: `DatabaseSync` of `node:sqlite`, or `Database` of better-sqlite3. Give the one that
   * your app opens the same file with, because two copies of SQLite in one process may damage a file:
   * https://www.sqlite.org/howtocorrupt.html. Default: that of `node:sqlite`, which Node has since 22.13; on an older
   * Node that of better-sqlite3, if it is installed.
   */
  driver?: (new (path: string) => SqliteDatabase) | undefined
}

export interface ResolvedOptions {
  readonly path: string
  readonly table: string
  readonly synchronous: 'normal' | 'full'
  readonly maxEntries: number
  readonly maxBytes: number
  readonly maxAge: number | undefined
  readonly windowBytes: number
  readonly timeout: number
  readonly pollMs: number
  readonly driver: Driver
}

export type ResolvedRunsOptions = Pick<
  ResolvedOptions,
  'path' | 'table' | 'synchronous' | 'timeout' | 'pollMs' | 'driver'
>

const isMemory = (value: string) => value === ':memory:' || value.startsWith('file:')

const RULES: Record<keyof SqliteLogOptions, Rule> = {
  path: {
    expected: "the path of a file, such as 'data/events.db' (without a log, a pool is in memory)",
    accepts: value => typeof value === 'string' && value !== '' && !isMemory(value),
  },
  table: {
    default: 'sse_events',
    expected: "the name of a table, such as 'sse_events', of letters, digits and _",
    accepts: value => typeof value === 'string' && /^[A-Za-z_]\w{0,39}$/.test(value),
  },
  synchronous: oneOf('normal', 'full'),
  maxEntries: whole(10_000, 1_000_000),
  maxBytes: whole(256 * MIB, Number.MAX_SAFE_INTEGER),
  maxAge: optional(`milliseconds, a whole number from 1 to ${MAX_DELAY}`, value =>
    whole(undefined, MAX_DELAY).accepts(value),
  ),
  windowBytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
  pollMs: timeoutMs(1000),
  driver: aFunction('the class DatabaseSync of node:sqlite, or Database of better-sqlite3'),
}

const { path, table, synchronous, timeout, pollMs, driver } = RULES

const RUNS_RULES: Record<keyof SqliteRunsOptions, Rule> = {
  path,
  table: { ...table, default: 'sse_runs' },
  ...{ synchronous, timeout, pollMs, driver },
}

const FOREIGN_OPTIONS: ForeignOptions = [
  [['file', 'filename', 'url', 'db', 'database', 'storage'], 'did you mean "path"?'],
  [['key', 'stream', 'name', 'tablename'], 'did you mean "table"?'],
  [['ttl', 'retention'], 'did you mean "maxAge"?'],
  [['limit', 'maxlen', 'events'], 'did you mean "maxEntries"?'],
  [['poll', 'pollinterval', 'interval'], 'did you mean "pollMs"?'],
  [['busytimeout'], 'did you mean "timeout"?'],
  [['sqlite', 'client', 'connection'], 'did you mean "driver"? The log opens the file by itself'],
]

const RUNS_FOREIGN_OPTIONS: ForeignOptions = [
  ...FOREIGN_OPTIONS.filter(([names]) => !names.includes('ttl') && !names.includes('limit')),
  [['ttl', 'expires', 'lease', 'maxlength'], 'each run has its own: set it where the run begins'],
]

/**
 * @throws TypeError that names the option if one is missing, unknown or invalid; `SseError` with `ERR_SSE_LOG_DOWN` if
 * there is no driver.
 */
export function resolveOptions(given: SqliteLogOptions): ResolvedOptions {
  return resolveFor('sqliteLog()', given, RULES, FOREIGN_OPTIONS)
}

export function resolveRunsOptions(given: SqliteRunsOptions): ResolvedRunsOptions {
  return resolveFor('sqliteRuns()', given, RUNS_RULES, RUNS_FOREIGN_OPTIONS)
}

function resolveFor<Name extends string>(
  where: string,
  given: unknown,
  rules: Record<Name, Rule>,
  foreign: ForeignOptions,
): ResolvedOptions {
  if (typeof given === 'string') {
    const example = where.replace('()', "({ path: 'events.db' })")
    throw new TypeError(`${where}: options must be an object; got a string; write ${example}`)
  }
  refuseForeignOptions(where, given, foreign)
  const resolved = resolve(where, rules, given) as unknown as ResolvedOptions
  // Missing here rather than at the first event. The path stays the same when the app changes its folder.
  return {
    ...resolved,
    path: resolvePath(resolved.path),
    driver: findDriver(resolved.driver, where),
  }
}
