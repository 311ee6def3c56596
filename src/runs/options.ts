/** The options of `new Runs()` and of `runs.stream()`, each with its default and its check. */
import type { Context } from 'koa'
import { type RouteOptions, resolveRoute } from '../koa/options.js'
import {
  aFunction,
  isFunction,
  isRecord,
  isWhole,
  MAX_DELAY,
  oneOf,
  optional,
  type Rule,
  resolve,
} from '../lib/rules.js'
import { memoryRuns } from '../log/memory-runs.js'
import type { RunStore } from '../log/run-store.js'
import { hasHub } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'
import type { FormatName } from './formats.js'

/** A member that does not depend on the pool's events, so that a pool of any events will do. */
type AnyPool = Pick<ClientPool, 'claim'>

/** Options of {@link Runs}. */
export interface RunsOptions {
  /** Its streams are members of this pool, whatever its events are: heartbeats, limits, `authorize`, drain. */
  pool: AnyPool
  /**
   * Where runs are kept. Default: in the memory of this process. `redisRuns()` of `koa-sse-pool/redis`,
   * `postgresRuns()` of `koa-sse-pool/postgres` and, on one machine, `sqliteRuns()` of `koa-sse-pool/sqlite` share
   * them between processes.
   */
  store?: RunStore | undefined
  /**
   * A run expires this many milliseconds after it was last written or read. Default 3,600,000, an hour.
   */
  ttl?: number | undefined
  /**
   * For how many milliseconds after it has expired the id of a run is remembered, so that a late duplicate of
   * the request that started it starts nothing. Default 86,400,000, a day.
   */
  remember?: number | undefined
  /**
   * A run whose process gives no sign of life for this many milliseconds is lost, and its readers are told.
   * At least 1000. Default 10,000.
   */
  lease?: number | undefined
  /**
   * The most characters that a run keeps; beyond it the oldest events are dropped, and a reader that has not had
   * them gets a gap. Default 16,777,216.
   */
  maxLength?: number | undefined
  /**
   * What readers are told of a producer's error, as `error` in the close event. Default: nothing, because messages of
   * errors may contain secrets. The pool emits the error itself as `error`.
   */
  onError?: ((error: unknown, id: string) => string | undefined) | undefined
}

/** How {@link Runs.start} treats an id that has a run already. */
export interface StartOptions {
  /**
   * `'join'` (default): nothing is started, and readers get the run that there is. `'reject'`: an `SseError`
   * `ERR_SSE_RUN_EXISTS`, which Koa answers with 409.
   */
  onDuplicate?: 'join' | 'reject' | undefined
}

/** Options of {@link Runs.stream}: those of a route, but for what runs decide themselves. */
export interface RunStreamOptions
  extends Omit<RouteOptions, 'id' | 'channels' | 'replay' | 'resume' | 'done'> {
  /**
   * Returns the id of the run. `undefined` and `null` are answered like an unknown run. May be async. Who may read
   * which run is the app's decision: `ctx.throw(403)` refuses the request.
   */
  id: (ctx: Context) => RunId | Promise<RunId>
  /**
   * `'events'` (default): every event has its offset as its id, and the end is the close event with
   * `{ state }` as data. `'ui-messages'`: the stream protocol of the AI SDK, whose chunks are the data of the
   * events; a GET finds only a run that is open, as the SDK resumes. `'openai'`: as the OpenAI API streams. Both end
   * with `[DONE]` and have no ids: a reader gets the run from its beginning.
   */
  format?: FormatName | undefined
}

/** What the option `id` of {@link Runs.stream} may return. */
export type RunId = string | null | undefined

export interface ResolvedRunsOptions {
  readonly pool: AnyPool
  readonly store: RunStore
  readonly ttl: number
  readonly remember: number
  readonly lease: number
  readonly maxLength: number
  readonly onError: (error: unknown, id: string) => string | undefined
}

const DELAY = 'whole milliseconds'

const RULES: Record<keyof RunsOptions, Rule> = {
  pool: { default: undefined, expected: 'a ClientPool', accepts: hasHub },
  store: optional('a RunStore such as memoryRuns()', value => isRecord(value) && 'append' in value),
  ttl: {
    default: 3_600_000,
    expected: `${DELAY} of at least 1000`,
    accepts: value => isWhole(value, 1000, Number.MAX_SAFE_INTEGER),
  },
  remember: {
    default: 86_400_000,
    expected: `${DELAY}, 0 or more`,
    accepts: value => isWhole(value, 0, Number.MAX_SAFE_INTEGER),
  },
  lease: {
    default: 10_000,
    expected: `${DELAY} of at least 1000`,
    accepts: value => isWhole(value, 1000, MAX_DELAY),
  },
  maxLength: {
    default: 16 * 1024 * 1024,
    expected: 'a whole number of characters',
    accepts: value => isWhole(value, 1, Number.MAX_SAFE_INTEGER),
  },
  onError: aFunction('a function that returns a text'),
}

/** @throws TypeError that names the option, when one is unknown, missing or wrong. */
export function resolveRuns(given: RunsOptions): ResolvedRunsOptions {
  if (hasHub(given)) throw new TypeError('Runs: got a ClientPool; write new Runs({ pool })')
  const options = resolve('Runs', RULES, given) as unknown as RunsOptions
  return {
    ...options,
    store: options.store ?? memoryRuns(),
    onError: options.onError ?? (() => undefined),
  } as ResolvedRunsOptions
}

const START_RULES = { onDuplicate: oneOf('join', 'reject') }

/** @throws TypeError that names the option, when it is unknown or wrong. */
export function resolveStart(given: StartOptions): Required<StartOptions> {
  return resolve('runs.start()', START_RULES, given) as unknown as Required<StartOptions>
}

const STREAM_RULES = {
  id: {
    default: undefined,
    expected: 'a function such as ctx => ctx.params.id',
    accepts: isFunction,
  },
  format: oneOf('events', 'ui-messages', 'openai'),
}

/** @throws TypeError that names the option, when one is unknown, missing or wrong. */
export function resolveStream({ id, format, ...route }: RunStreamOptions) {
  const own = resolve('runs.stream()', STREAM_RULES, { id, format }) as unknown as {
    readonly id: RunStreamOptions['id']
    readonly format: FormatName
  }
  for (const name of ['channels', 'replay', 'resume', 'done']) {
    if (!(name in route)) continue
    throw new TypeError(`runs.stream(): option "${name}" is decided by "format"; drop it`)
  }
  const isForFetch = own.format !== 'events'
  if (isForFetch && route.longPoll) {
    throw new TypeError(
      `runs.stream(): option "longPoll" needs ids, which format: '${own.format}' has not; drop one of the two`,
    )
  }
  // Their clients ask for anything, or for JSON, and read a stream.
  return { ...own, route: resolveRoute(isForFetch ? { accept: 'any', ...route } : route) }
}
