/** The options of a route, each with its default and its check, and how the pool's are told apart. */
import type { Context } from 'koa'
import { got } from '../lib/errors.js'
import { checkName } from '../lib/names.js'
import {
  aBoolean,
  aFunction,
  isFunction,
  isRange,
  isRecord,
  isWhole,
  MAX_DELAY,
  oneOf,
  optional,
  type Rule,
  resolve,
} from '../lib/rules.js'
import { hasHub } from '../pool/hub.js'
import { POOL_RULES, type PoolOptions } from '../pool/options.js'
import type { ClientPool } from '../pool/pool.js'
import type { EventMap } from '../wire/event.js'

/** Options of {@link sse}: those of the route, and either a `pool` or the options to make one from. */
export type SseOptions<Events extends object = EventMap> = RouteOptions &
  (GivenPool<Events> | OwnPool<Events>)

/** The streams of the route join this pool. Its options are set where it is created. */
export type GivenPool<Events extends object = EventMap> = {
  /** The pool that streams join. Default: a new one, created from the pool options given here. */
  pool: ClientPool<Events>
} & { [Name in keyof PoolOptions]?: undefined }

/** The streams of the route join a pool of its own, created from the options given here. */
export type OwnPool<Events extends object = EventMap> = PoolOptions<Events> & {
  /** Left out, so that `sse()` creates the pool: see `sse().pool`. `undefined` is an error. */
  pool?: never
}

/** Options of one route. */
export interface RouteOptions {
  /**
   * Returns the client's id: a string of 1 to 256 characters without control characters, or a finite
   * number. `null` or `undefined` stands for a random UUID, which is also the default; anything else, such
   * as the array of `?id=a&id=b`, is answered with 400. May be async; `ctx.throw(401)` refuses the
   * request.
   */
  id?: ((ctx: Context) => ClientId | Promise<ClientId>) | undefined
  /**
   * Returns the channels to join before anything is replayed, so that they are replayed too. Default:
   * none. A wrong name, or more than 100 of them, is answered with 400. May be async.
   */
  channels?: ((ctx: Context) => readonly string[] | Promise<readonly string[]>) | undefined
  /**
   * Returns the client's id and channels together, and when its rights end (`expiresAt`), in place of the
   * options `id` and `channels`, for apps that find both in one place. Called once per request and checked like
   * those two: without an `id` the client gets a random UUID, without `channels` it joins none. It is called for
   * a reconnect too, so every resume is authorized again. May be async; `ctx.throw(401)` refuses the request.
   * Default: none; `id` and `channels` are called.
   *
   * @example
   * ```js
   * sse({
   *   pool,
   *   identify: async ctx => {
   *     const session = (await sessions.find(ctx.cookies.get('session'))) ?? ctx.throw(401)
   *     return { id: session.userId, channels: session.teams, expiresAt: session.expiresAt }
   *   },
   * })
   * ```
   */
  identify?: ((ctx: Context) => Identity | Promise<Identity>) | undefined
  /** The name of the event that `end()` sends. Default `'close'`. */
  closeEvent?: string | undefined
  /**
   * Sends nothing but the app's own events, for clients that parse every event as JSON, such as the OpenAI
   * SDKs: heartbeats are comments, there are no ids and gaps (`resume: false`), and a stream ends with this
   * text as an event without a name, in place of the close event: `done: '[DONE]'`. Data that `end()` is
   * given comes before it. For clients that read with `fetch`: an `EventSource` would reconnect. Default:
   * none.
   */
  done?: string | undefined
  /** Only requests with this query key, whatever its value, get a stream. Default: all requests do. */
  matchQuery?: string | undefined
  /**
   * The browser's reconnect delay, in whole milliseconds of at least 1; `[min, max]` draws one at random
   * for each stream. Default: none, which leaves it to the browser (3 to 5 seconds).
   */
  retry?: number | readonly [min: number, max: number] | undefined
  /**
   * What a stream without a cursor gets first. `'missed'` (default): nothing. `'latest'`: the newest
   * event of each key and the newest without one, each for its client, for everyone and for each of its
   * channels. `'all'`: all that the window holds for it.
   */
  replay?: 'missed' | 'latest' | 'all' | undefined
  /** `false` leaves ids and replay to the app: no id, no replay, no gap. Default `true`. */
  resume?: boolean | undefined
  /**
   * `true`: a request that prefers `application/json` is answered by long polling, with a
   * {@link PollAnswer} of what came after its cursor; if that is nothing, it waits up to 25 seconds. For
   * networks that hold back streams. The handler is not called. While it waits, a poll counts like a
   * stream for `maxClients` and `maxStreamsPerClient`; one that is replaced gets the cursor `'sse.end'`.
   * Needs `resume`. Default `false`.
   */
  longPoll?: boolean | undefined
  /**
   * What a full pool answers, and a client whose address is over its limit. `'reject'` (default): 503, or
   * 429 for an address, with a `Retry-After` of 2 to 10 seconds.
   * `'retry'`: an empty stream with this delay as `retry`, because any 4xx or 5xx stops a browser's
   * `EventSource` for good. A closing pool always answers in this way. Long polls, and requests of a route with
   * `done`, get a 503 all the same: to them an empty stream would be a wrong answer.
   */
  overflow?: 'reject' | 'retry' | undefined
  /**
   * Closes a stream as `rotated` after a random time between these two, in whole milliseconds; the
   * browser reconnects and resumes. Default: never.
   */
  maxAge?: readonly [min: number, max: number] | undefined
  /**
   * Origins of other sites that may connect, with credentials (CORS); all others get 403. Errors carry the
   * CORS headers too, and a preflight may ask for any header. `router.get` passes no preflight on: mount
   * the middleware for both, `router.get('/events', stream).options('/events', stream)`.
   *
   * A request shows its site by `Sec-Fetch-Site`, or without it by `Origin`, or without both by `Referer`. If it
   * has none of them, as from a server, it may connect. Over plain HTTP a page of another site can bring
   * that about too: use HTTPS, or cookies with `SameSite`. Default: origins are not checked.
   */
  allowedOrigins?: readonly string[] | ((origin: string) => boolean | Promise<boolean>) | undefined
  /**
   * The host names of the app, without ports; a request whose `Host`, as Node receives it, has another name
   * gets 403. Without this, a site that points its own name at this server is of the same origin for
   * browsers (DNS rebinding), whatever `allowedOrigins` says. For apps in a private network and on
   * localhost. Default: hosts are not checked.
   */
  allowedHosts?: readonly string[] | undefined
  /**
   * `true`: clients that accept gzip get their stream compressed, in place of the plain text. An event is compressed
   * once for all streams that get it, and with reference to the event before it, where streams had that one last.
   * What is sent to one stream alone costs a compression of its own. Do not use it for streams in which secrets and
   * text of other people meet: whoever can watch the traffic can guess the secret from the sizes (BREACH). Default
   * `false`.
   */
  compress?: boolean | undefined
  /**
   * Which requests get a stream. `'event-stream'` (default): those that accept `text/event-stream`; others
   * get 406. `'any'`: all, for clients such as the OpenAI SDKs, which ask for `application/json` and read a
   * stream. Cannot be combined with `longPoll`.
   */
  accept?: 'event-stream' | 'any' | undefined
}

/** What `id` may return, which includes what `ctx.query.id` is. */
export type ClientId = string | number | string[] | null | undefined

/** What `identify` returns: the client, and what it listens to. */
export interface Identity {
  /** The client's id, which becomes `ctx.sse.id`. Default: a random UUID. */
  id?: ClientId | undefined
  /** The channels that its stream joins before anything is replayed. Default: none. */
  channels?: readonly string[] | undefined
  /**
   * When the rights of this client end: a `Date`, or milliseconds since the epoch. The stream then closes
   * as `expired`, at most a second late, and up to a minute late if the system clock is set forward. A
   * browser reconnects and is identified again. A request that comes with a time that has passed gets
   * 401, which stops an `EventSource`. Default: never.
   */
  expiresAt?: Date | number | null | undefined
}

/** What holds for every stream of one `sse()`. */
export interface ResolvedRouteOptions {
  readonly id: RouteOptions['id']
  readonly channels: RouteOptions['channels']
  readonly identify: RouteOptions['identify']
  readonly closeEvent: string
  readonly done: string | undefined
  readonly matchQuery: string | undefined
  readonly retry: readonly [number, number] | undefined
  readonly replay: 'missed' | 'latest' | 'all'
  readonly resume: boolean
  readonly longPoll: boolean
  readonly overflow: 'reject' | 'retry'
  readonly maxAge: readonly [number, number] | undefined
  readonly compress: boolean
  readonly accept: 'event-stream' | 'any'
  readonly allowedHosts: readonly string[] | undefined
  readonly allowedOrigins: ((origin: string) => boolean | Promise<boolean>) | undefined
}

const ROUTE_RULES: Record<keyof RouteOptions, Rule> = {
  id: aFunction('a function such as ctx => ctx.query.id'),
  channels: aFunction('a function that returns an array of channel names'),
  identify: aFunction(
    "a function that returns an object such as { id: 'ada', channels: ['news'] }",
  ),
  closeEvent: {
    default: 'close',
    expected: 'a non-empty event name',
    accepts: value => typeof value === 'string' && value !== '',
  },
  done: optional("a text such as '[DONE]'", value => typeof value === 'string' && value !== ''),
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
  allowedOrigins: {
    ...optional(
      "an array of origins such as ['https://app.example'], or a function",
      value => isFunction(value) || (Array.isArray(value) && value.every(one => isOrigin(one))),
    ),
    got: wrongOrigin,
  },
  allowedHosts: optional(
    "an array of host names without scheme and port such as ['app.example', 'localhost']",
    value => Array.isArray(value) && value.every(one => isHostName(one)),
  ),
  compress: aBoolean(false),
  accept: oneOf('event-stream', 'any'),
}

const RULES = { pool: optional('a ClientPool', hasHub), ...ROUTE_RULES, ...POOL_RULES }

/**
 * Separates the options of `sse()`: the pool, or the options to create one from, and the route's own.
 *
 * @throws TypeError that names the option, when one is unknown or wrong, or does not go with another.
 */
export function resolveSseOptions<Events extends object>(given: SseOptions<Events>) {
  // A pool would pass as options of which none is set, and another pool would be made.
  if (hasHub(given)) throw new TypeError('sse(): got a ClientPool; write sse({ pool })')
  if (isRecord(given) && 'pool' in given && given.pool === undefined) {
    // The route would silently get a pool to which the app never sends.
    throw new TypeError(
      'sse(): option "pool" is undefined; import the pool before its routes, or leave "pool" out to create a new one',
    )
  }
  resolve('sse()', RULES, given)
  checkIdentify(given)
  const { pool, ...options } = given
  const poolOptions = part(options, name => name in POOL_RULES)
  const [stray] = Object.keys(poolOptions)
  if (pool !== undefined && stray !== undefined) {
    throw new TypeError(
      `sse(): option "${stray}" belongs to the given pool; set it in new ClientPool({ ${stray}: … })`,
    )
  }
  const routeOptions = part(options, name => name in ROUTE_RULES)
  return {
    pool,
    poolOptions: poolOptions as PoolOptions<Events>,
    route: resolveRoute(routeOptions),
  }
}

/** @throws TypeError that names the option, when one is unknown or wrong, or does not go with another. */
export function resolveRoute(given: RouteOptions): ResolvedRouteOptions {
  if (given.done !== undefined && given.resume === true) {
    throw new TypeError('sse(): option "done" rules out ids; drop "resume: true"')
  }
  // Ids would come with events of the package's own.
  const route = resolve('sse()', ROUTE_RULES, given.done ? { ...given, resume: false } : given)
  checkName('sse(): option "closeEvent"', route.closeEvent)
  if (route.longPoll && !route.resume) {
    const reason = route.done === undefined ? 'resume: false' : 'done'
    throw new TypeError(`sse(): option "longPoll" needs ids; drop "${reason}"`)
  }
  if (route.longPoll && route.accept === 'any') {
    throw new TypeError(
      `sse(): option "longPoll" answers requests for application/json; drop "accept: 'any'"`,
    )
  }
  const { retry, allowedOrigins, allowedHosts } = route
  return {
    ...route,
    retry: typeof retry === 'number' ? [retry, retry] : retry,
    allowedOrigins: Array.isArray(allowedOrigins)
      ? (origin: string) => allowedOrigins.includes(origin)
      : allowedOrigins,
    allowedHosts: (allowedHosts as string[] | undefined)?.map(name => name.toLowerCase()),
  } as unknown as ResolvedRouteOptions
}

/** Without this one of them would be ignored, and clients would get the wrong id or miss channels. */
function checkIdentify(given: RouteOptions): void {
  if (given.identify === undefined) return
  for (const name of ['id', 'channels'] as const) {
    if (given[name] === undefined) continue
    throw new TypeError(
      `sse(): option "${name}" cannot be combined with "identify"; drop "${name}" and let "identify" return { ${name} }`,
    )
  }
}

/** The options of these names that are set. */
function part(options: object, isWanted: (name: string) => boolean): object {
  const set = Object.entries(options).filter(([, value]) => value !== undefined)
  return Object.fromEntries(set.filter(([name]) => isWanted(name)))
}

function isHostName(value: unknown): boolean {
  return (
    typeof value === 'string' &&
    URL.canParse(`http://${value}`) &&
    /^([^:/?#@]+|\[.+\])$/.test(value)
  )
}

/** The entry that is no origin, and the likely fix. */
function wrongOrigin(given: unknown): string {
  const wrong = Array.isArray(given) ? given.find(one => !isOrigin(one)) : given
  if (wrong === '*') return '"*"; browsers refuse it with credentials, so list each origin'
  const isUrl = typeof wrong === 'string' && /^https?:/.test(wrong) && URL.canParse(wrong)
  return isUrl ? `${got(wrong)}; write ['${new URL(wrong).origin}']` : got(wrong)
}

/** An origin as browsers send it (RFC 6454, 6.2): no path, no trailing slash, no default port. */
function isOrigin(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value
}
