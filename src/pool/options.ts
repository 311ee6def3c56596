/**
 * Every option with its default, and the one place where options are checked.
 * A wrong option is found when the app starts, never when a client connects.
 */
import type { Context } from 'koa'
import { checkName } from '../lib/names.js'
import {
  aBoolean,
  bytes,
  count,
  isRange,
  isRecord,
  isWhole,
  MAX_DELAY,
  MIB,
  oneOf,
  optional,
  type Rule,
  resolve,
} from '../lib/rules.js'
import type { EventLog } from '../log/log.js'
import type { EventStream } from '../stream/stream.js'
import type { EventMap, Serialize } from '../wire/event.js'
import type { ClientPool } from './pool.js'

/** Options of a {@link ClientPool}. */
export interface PoolOptions<Events extends object = EventMap> {
  /** How many streams may be open at once. Default 10 000; `Infinity` for no limit. */
  maxClients?: number | undefined
  /** How many streams one client id may have, such as its tabs. Default `Infinity`. */
  maxStreamsPerClient?: number | undefined
  /**
   * What a stream over `maxStreamsPerClient` does: `'replace'` (default) closes the client's
   * oldest one as `replaced`; `'reject'` refuses the new one with 429.
   */
  onDuplicate?: 'replace' | 'reject' | undefined
  /**
   * Milliseconds between heartbeats. Default 15 000, which is under every proxy's idle timeout;
   * `false` sends none, but goes on checking `authorize` and the server every 15 000 ms.
   */
  pingInterval?: number | false | undefined
  /**
   * `'event'` (default): an `sse.cursor` event, which keeps a quiet client's cursor fresh and lets
   * a page notice silence. `'comment'`: for clients that show every event they get;
   * their cursors are not kept fresh, so a quiet one may be told of a gap that was none.
   */
  heartbeat?: 'event' | 'comment' | undefined
  /** Bytes of direct sends that may wait for one stream before it is closed as `slow`. Default 1 MiB. */
  maxBufferedBytes?: number | undefined
  /**
   * Milliseconds after which a full socket that takes nothing is closed as `slow`. Default 30 000. It
   * may take twice as long, as Node counts the filling of the socket as progress.
   */
  stallTimeout?: number | undefined
  /** Bytes that one event's frame may take. Default 1 MiB. */
  maxEventBytes?: number | undefined
  /**
   * The newest entries that this process keeps for replay. Default `{ events: 10_000, bytes: 32 MiB }`,
   * whichever is reached first. A client that was away for longer gets a gap event.
   */
  window?: { events?: number; bytes?: number } | undefined
  /**
   * `true`: an open HTTP/1.1 stream keeps its socket and nothing else, for half the memory. The
   * response's `finish` and `close` come when the stream opens, so access logs end there, and
   * `server.closeAllConnections()` does not see it: end streams by {@link ClientPool.close}.
   * Where the connection is not as Node 20 to 26 leave it, it stays as it is; `stats().lean`
   * counts those that are lean. Default `false`.
   */
  lean?: boolean | undefined
  /** Where events are stored. Default: a log in this process's memory. */
  log?: EventLog | undefined
  /** Turns data that is no string into a string. Default `JSON.stringify`. */
  serialize?: Serialize | undefined
  /**
   * Asked again for each open stream at every heartbeat; `false` closes it as `expired`. When it
   * throws, the stream stays, the pool emits `error`, and it is asked again at the next one.
   */
  authorize?: ((stream: EventStream<Events>) => boolean | Promise<boolean>) | undefined
}

/** Options of {@link sse}: those of one route, and with no `pool` given those of its pool too. */
export interface SseOptions<Events extends object = EventMap> extends PoolOptions<Events> {
  /** The pool that streams join. Default: a new one, made from the pool options given here. */
  pool?: ClientPool<Events> | undefined
  /**
   * The client's id: a string of 1 to 256 characters without controls, or a number. `null` or
   * `undefined` makes a random UUID, which is also the default; anything else, such as the array
   * of `?id=a&id=b`, is answered 400. May be async; `ctx.throw(401)` refuses the request.
   */
  id?: ((ctx: Context) => ClientId | Promise<ClientId>) | undefined
  /** Channels to join before anything is replayed, so that they are replayed too. May be async. */
  channels?: ((ctx: Context) => readonly string[] | Promise<readonly string[]>) | undefined
  /** The name of the event that `end()` sends. Default `'close'`. */
  closeEvent?: string | undefined
  /** Only requests with this query key, whatever its value, get a stream; others pass. */
  matchQuery?: string | undefined
  /** The reconnect delay told to browsers, in ms; `[min, max]` draws one at random for each stream. */
  retry?: number | readonly [min: number, max: number] | undefined
  /**
   * What a stream that brings no cursor gets first. `'missed'` (default): nothing. `'latest'`: for
   * each of its targets, the newest entry of each key and the newest without one. `'all'`: all
   * that the window holds for it.
   */
  replay?: 'missed' | 'latest' | 'all' | undefined
  /** `false` leaves ids and replay to the app: no cursor, no gap, no ids. Default `true`. */
  resume?: boolean | undefined
  /**
   * `true`: a client that asks for `application/json` gets what came after its cursor as a
   * {@link PollAnswer}, or waits up to 25 seconds for it. For networks that hold back streams. The
   * handler does not run for it. A poll takes no place of `maxClients`; a full pool refuses it as it
   * refuses streams. Default `false`.
   */
  longPoll?: boolean | undefined
  /**
   * What a full or closing pool answers. `'reject'` (default): 503 with `Retry-After`. `'retry'`: an
   * empty stream with a `retry`, because any 4xx or 5xx stops a browser's EventSource for good.
   */
  overflow?: 'reject' | 'retry' | undefined
  /** Closes a stream as `rotated` after a random time in between, in ms; the browser comes back. */
  maxAge?: readonly [min: number, max: number] | undefined
  /** Origins of other sites that may connect, with credentials; others get 403. Default: not checked. */
  allowedOrigins?: readonly string[] | ((origin: string) => boolean | Promise<boolean>) | undefined
}

/** What `id` may return: it admits what `ctx.query.id` is. */
export type ClientId = string | number | string[] | null | undefined

type Settled<Options> = { readonly [Name in keyof Options]-?: NonNullable<Options[Name]> }

export type ResolvedPoolOptions<Events extends object> = Settled<
  Omit<PoolOptions<Events>, 'window' | 'log' | 'authorize'>
> & {
  readonly window: { readonly events: number; readonly bytes: number }
  readonly log: EventLog | undefined
  readonly authorize: PoolOptions<Events>['authorize']
}

/** What holds for every stream of one `sse()`. */
export interface ResolvedRouteOptions {
  readonly id: SseOptions['id']
  readonly channels: SseOptions['channels']
  readonly closeEvent: string
  readonly matchQuery: string | undefined
  readonly retry: readonly [number, number] | undefined
  readonly replay: 'missed' | 'latest' | 'all'
  readonly resume: boolean
  readonly longPoll: boolean
  readonly overflow: 'reject' | 'retry'
  readonly maxAge: readonly [number, number] | undefined
  readonly allowedOrigins: ((origin: string) => boolean | Promise<boolean>) | undefined
}

const aFunction = (value: unknown) => typeof value === 'function'

const isPool = (value: unknown) => isRecord(value) && aFunction(value.broadcast)

const POOL_RULES: Record<keyof PoolOptions, Rule> = {
  maxClients: count(10_000),
  maxStreamsPerClient: count(Number.POSITIVE_INFINITY),
  onDuplicate: oneOf('replace', 'reject'),
  pingInterval: {
    default: 15_000,
    expected: 'milliseconds, a whole number of at least 1, or false for no heartbeats',
    accepts: value => value === false || isWhole(value, 1, MAX_DELAY),
  },
  heartbeat: oneOf('event', 'comment'),
  maxBufferedBytes: bytes(MIB),
  stallTimeout: {
    default: 30_000,
    expected: 'milliseconds, a whole number of at least 1',
    accepts: value => isWhole(value, 1, MAX_DELAY),
  },
  maxEventBytes: bytes(MIB),
  window: {
    default: {},
    expected: 'an object such as { events: 10_000, bytes: 33_554_432 }',
    accepts: isRecord,
  },
  log: optional(
    'an event log with open, append, compare, barrier and close',
    value =>
      isRecord(value) &&
      ['open', 'append', 'compare', 'barrier', 'close'].every(name => aFunction(value[name])),
  ),
  lean: aBoolean(false),
  serialize: {
    default: JSON.stringify,
    expected: 'a function from data to a string',
    accepts: aFunction,
  },
  authorize: optional('a function from a stream to a boolean', aFunction),
}

const WINDOW_RULES: Record<'events' | 'bytes', Rule> = {
  events: count(10_000),
  bytes: bytes(32 * MIB),
}

const ROUTE_RULES: Record<Exclude<keyof SseOptions, keyof PoolOptions>, Rule> = {
  pool: optional('a ClientPool', isPool),
  id: optional('a function such as ctx => ctx.query.id', aFunction),
  channels: optional('a function that returns an array of channel names', aFunction),
  closeEvent: {
    default: 'close',
    expected: 'a non-empty event name',
    accepts: value => typeof value === 'string' && value !== '',
  },
  matchQuery: optional(
    'the name of a query key',
    value => typeof value === 'string' && value !== '',
  ),
  retry: optional(
    'milliseconds of at least 1, or [min, max] (0 makes browsers reconnect in a busy loop)',
    value => isWhole(value, 1, MAX_DELAY) || isRange(value, 1),
  ),
  replay: oneOf('missed', 'latest', 'all'),
  resume: aBoolean(true),
  longPoll: aBoolean(false),
  overflow: oneOf('reject', 'retry'),
  maxAge: optional('milliseconds as [min, max]', value => isRange(value, 1)),
  allowedOrigins: optional(
    "an array of origins such as ['https://app.example'], or a function",
    value => aFunction(value) || (Array.isArray(value) && value.every(one => isOrigin(one))),
  ),
}

/** An origin as browsers send it (RFC 6454, 6.2): no path, no trailing slash, no default port. */
const isOrigin = (value: unknown) =>
  typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value

export function resolvePoolOptions<Events extends object>(
  given: PoolOptions<Events>,
): ResolvedPoolOptions<Events> {
  const resolved = resolve('ClientPool', POOL_RULES, given)
  const window = resolve('ClientPool: window', WINDOW_RULES, resolved.window)
  return { ...resolved, window } as unknown as ResolvedPoolOptions<Events>
}

/** Parts `sse()`'s options into the pool, or the options to make one from, and the route's own. */
export function resolveSseOptions<Events extends object>(given: SseOptions<Events>) {
  // Its fields are private, so it would pass for options without any, and make another pool.
  if (isPool(given)) throw new TypeError('sse(): got a ClientPool; write sse({ pool })')
  resolve('sse()', { ...ROUTE_RULES, ...POOL_RULES }, given)
  const isPoolOption = (name: string) => Object.hasOwn(POOL_RULES, name)
  const part = (wanted: (name: string) => boolean) =>
    Object.fromEntries(Object.entries(given).filter(([name]) => wanted(name)))

  const poolOptions = part(isPoolOption) as PoolOptions<Events>
  const [stray] = Object.keys(poolOptions)
  if (given.pool !== undefined && stray !== undefined) {
    throw new TypeError(
      `sse(): option "${stray}" belongs to the pool, which is given; set it by new ClientPool({ ${stray}: … })`,
    )
  }
  const route = resolve(
    'sse()',
    ROUTE_RULES,
    part(name => !isPoolOption(name)),
  )
  checkName('sse(): option "closeEvent"', route.closeEvent)
  if (route.longPoll && !route.resume) {
    throw new TypeError('sse(): option "longPoll" needs the ids that "resume: false" leaves out')
  }
  return {
    pool: given.pool,
    poolOptions,
    route: {
      ...route,
      retry: typeof route.retry === 'number' ? [route.retry, route.retry] : route.retry,
      allowedOrigins: Array.isArray(route.allowedOrigins)
        ? (origin: string) => (route.allowedOrigins as string[]).includes(origin)
        : route.allowedOrigins,
    } as unknown as ResolvedRouteOptions,
  }
}
