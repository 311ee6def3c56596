/** The options of `redisLog()` and `redisRuns()`: their meaning, defaults and checks. */
import {
  isRecord,
  isWhole,
  MIB,
  optional,
  type Rule,
  resolve,
  timeoutMs,
  whole,
} from '../lib/rules.js'
import { type ForeignOptions, refuseForeignOptions } from '../log/shared.js'
import { type CreateConnection, connectionFactory, type RedisClient } from './client.js'

/** The options of {@link redisLog}. */
export interface RedisLogOptions {
  /**
   * A client made by `createClient()` of the package `redis` or by `new Redis()` of `ioredis`, connected
   * or not. Only its options are used, for two connections of the log's own: the client itself is never
   * sent a command and never closed. It must be a client of one node, or of ioredis with `sentinels`. In
   * a Redis Cluster, give a client of the node that holds the key.
   */
  client: RedisClient
  /**
   * The key of the stream. Use one key per pool, and the same in all of its processes. A `keyPrefix` of
   * the client is put before it.
   */
  key: string
  /**
   * How many entries Redis keeps, from 1 to 1,000,000; default 10,000. Each append trims the oldest
   * entries beyond it, in whole nodes and so only approximately
   * ([`MAXLEN ~`](https://redis.io/docs/latest/commands/xadd/)). It is also the most that a process reads
   * when it starts. Clients whose cursor was trimmed get a gap. Use the same number in all processes.
   */
  maxEntries?: number | undefined
  /**
   * How many characters of entries a process reads at most when it starts; default 32 Mi (33,554,432).
   * Older entries beyond it are not read, so clients whose cursor is among them get a gap from this
   * process. The newest entry is always read, however large it is.
   */
  windowBytes?: number | undefined
  /**
   * How long to wait for a connection or a reply, in ms, from 1 to 3,600,000; default 5000. Beyond it
   * the connection is closed and opened again. Appends without a reply reject with
   * `ERR_SSE_LOG_UNCERTAIN`, and further ones with `ERR_SSE_LOG_DOWN` until Redis replies again.
   */
  timeout?: number | undefined
  /**
   * How long one [`XREAD BLOCK`](https://redis.io/docs/latest/commands/xread/) waits for new entries, in
   * ms, from 1 to 3,600,000; default 5000. A silent connection counts as lost 2 s after that. Shorter
   * values notice a hanging server sooner and cost a command each time.
   */
  blockMs?: number | undefined
  /**
   * Makes an append resolve only once `replicas` replicas (1 to 1000) have the entry too, by
   * [`WAIT`](https://redis.io/docs/latest/commands/wait/). If they do not within `timeout` ms (1 to
   * 3,600,000), the append rejects with `ERR_SSE_LOG_UNCERTAIN`, although clients receive the event.
   * Default: an append resolves once the primary has the entry.
   */
  wait?: { replicas: number; timeout: number } | undefined
}

export interface ResolvedOptions {
  readonly createConnection: CreateConnection
  readonly key: string
  readonly maxEntries: number
  readonly windowBytes: number
  readonly timeout: number
  readonly blockMs: number
  readonly wait: { readonly replicas: number; readonly timeout: number } | undefined
}

const RULES: Record<keyof RedisLogOptions, Rule> = {
  client: { expected: 'a client of redis or ioredis', accepts: () => true },
  key: {
    expected: 'the key of the stream, a non-empty string',
    accepts: value => typeof value === 'string' && value !== '',
  },
  maxEntries: whole(10_000, 1_000_000),
  windowBytes: whole(32 * MIB, Number.MAX_SAFE_INTEGER),
  timeout: timeoutMs(5000),
  blockMs: timeoutMs(5000),
  wait: optional('an object such as { replicas: 1, timeout: 1000 }', isRecord),
}

const WAIT_RULES: Record<'replicas' | 'timeout', Rule> = {
  replicas: whole(undefined, 1000),
  timeout: timeoutMs(),
}

const WITH_CLIENT = 'redisLog({ client: createClient({ url }), key })'

/** What a client is created with. */
const OF_CLIENTS = [
  ...['url', 'uri', 'host', 'port', 'path', 'socket'],
  ...['username', 'password', 'database', 'db', 'tls'],
]

const FOREIGN_OPTIONS: ForeignOptions = [
  [OF_CLIENTS, `pass a client instead: ${WITH_CLIENT}`],
  [['redis', 'ioredis', 'connection'], `did you mean "client"? Write ${WITH_CLIENT}`],
  [['stream', 'streamkey', 'name', 'channel'], 'did you mean "key"?'],
  [['keyprefix', 'prefix'], 'put it before "key", or set "keyPrefix" on the client'],
  [['maxlen', 'maxlength', 'limit', 'events'], 'did you mean "maxEntries"?'],
  [['maxbytes', 'bytes'], 'did you mean "windowBytes"?'],
  [['block'], 'did you mean "blockMs"?'],
  [['replicas'], 'did you mean "wait", such as { replicas: 1, timeout: 1000 }?'],
]

/** @throws TypeError that names the option if one is missing, unknown or invalid. */
export function resolveOptions(given: RedisLogOptions): ResolvedOptions {
  refuseOtherThanOptions(
    'redisLog()',
    given,
    "redisLog({ client, key: 'app:events' })",
    WITH_CLIENT,
  )
  refuseForeignOptions('redisLog()', given, FOREIGN_OPTIONS)
  const resolved = resolve('redisLog()', RULES, given)
  const { createConnection, keyPrefix } = connectionFactory(resolved.client, 'redisLog()')
  const { wait } = resolved
  return {
    ...resolved,
    createConnection,
    key: `${keyPrefix}${resolved.key}`,
    wait: wait === undefined ? undefined : resolve('redisLog(): wait', WAIT_RULES, wait),
  } as ResolvedOptions
}

/** The options of {@link redisRuns}. */
export interface RedisRunsOptions {
  /**
   * A client made by `createClient()` of the package `redis` or by `new Redis()` of `ioredis`, connected
   * or not. Only its options are used, for at most two connections of the store's own: the client itself is
   * never sent a command and never closed. It must be a client of one node, or of ioredis with `sentinels`.
   * In a Redis Cluster, give a client of the node that holds the slot of `key`.
   */
  client: RedisClient
  /**
   * What the names of all keys and channels begin with, in braces, so that they share one slot; default
   * `'koa-sse-pool:runs'`. Use the same in all processes. A `keyPrefix` of the client is put before it.
   */
  key?: string | undefined
  /**
   * How long to wait for a connection or a reply, in ms, from 1 to 3,600,000; default 5000. Beyond it the
   * connection is closed and opened again, and the calls without a reply reject.
   */
  timeout?: number | undefined
  /**
   * How long a producer's events may wait for more before they are stored together, in ms, from 0 to 10,000;
   * default 60. It makes an answer of a model cost one command per 60 ms instead of one per token.
   */
  linger?: number | undefined
}

export interface ResolvedRunsOptions {
  readonly createConnection: CreateConnection
  /** What all names of keys begin with. */
  readonly prefix: string
  /** What all names of channels begin with. Channels, unlike keys, are shared by all databases. */
  readonly channels: string
  readonly timeout: number
  readonly linger: number
}

const RUNS_RULES: Record<keyof RedisRunsOptions, Rule> = {
  client: RULES.client,
  key: {
    default: 'koa-sse-pool:runs',
    // Redis Cluster takes the slot from what is between the first brace and the next one that closes.
    expected: 'what the names of all keys begin with, a non-empty string without braces',
    accepts: value => typeof value === 'string' && /^[^{}]+$/.test(value),
  },
  timeout: RULES.timeout,
  linger: {
    default: 60,
    expected: 'milliseconds, a whole number from 0 to 10000',
    accepts: value => isWhole(value, 0, 10_000),
  },
}

const RUNS_WITH_CLIENT = 'redisRuns({ client: createClient({ url }) })'

const RUNS_FOREIGN_OPTIONS: ForeignOptions = [
  [OF_CLIENTS, `pass a client instead: ${RUNS_WITH_CLIENT}`],
  [['redis', 'ioredis', 'connection'], `did you mean "client"? Write ${RUNS_WITH_CLIENT}`],
  [['stream', 'streamkey', 'name', 'channel', 'prefix', 'keyprefix'], 'did you mean "key"?'],
  [['ttl', 'expires', 'lease', 'maxlength'], 'each run has its own: set it where the run begins'],
]

/** @throws TypeError that names the option if one is missing, unknown or invalid. */
export function resolveRunsOptions(given: RedisRunsOptions): ResolvedRunsOptions {
  refuseOtherThanOptions('redisRuns()', given, 'redisRuns({ client })', RUNS_WITH_CLIENT)
  refuseForeignOptions('redisRuns()', given, RUNS_FOREIGN_OPTIONS)
  const { client, key, timeout, linger } = resolve('redisRuns()', RUNS_RULES, given)
  const { createConnection, keyPrefix, database } = connectionFactory(client, 'redisRuns()')
  const prefix = `${keyPrefix}{${key}}:`
  return {
    createConnection,
    prefix,
    channels: `${prefix}news:${database}:`,
    timeout: timeout as number,
    linger: linger as number,
  }
}

/** Habits of other libraries: the client itself, or its URL, which may contain a password. */
function refuseOtherThanOptions(
  where: string,
  given: unknown,
  withClient: string,
  withUrl: string,
): void {
  if (typeof given === 'string') {
    throw new TypeError(`${where}: options must be an object; got a string; write ${withUrl}`)
  }
  if (typeof Object(given).duplicate === 'function') {
    throw new TypeError(`${where}: options must be an object; got a client; write ${withClient}`)
  }
}
