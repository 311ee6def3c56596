/**
 * `sse()`: the story of one request, from Koa's `ctx` to an open event stream.
 */
import { randomUUID } from 'node:crypto'
import type { Context, DefaultState, Middleware, Next } from 'koa'
import { got } from '../lib/errors.js'
import { checkChannels, isClientId } from '../lib/names.js'
import { randomBetween } from '../lib/random.js'
import { isRecord } from '../lib/rules.js'
import { timeOf } from '../lib/time.js'
import { type Hub, hubOf, type OpenPages } from '../pool/hub.js'
import { ClientPool } from '../pool/pool.js'
import type { Refusal } from '../pool/stats.js'
import type { EventStream } from '../stream/event-stream.js'
import type { Stream } from '../stream/stream.js'
import { leaveConnection } from '../stream/transport/select.js'
import { type EventMap, encodeData } from '../wire/event.js'
import { COMMENT_HEARTBEAT, END_ID, HELLO, retryLater } from '../wire/frames.js'
import { addressOf } from './address.js'
import { lastEventIdOf } from './cursor.js'
import { EVENT_STREAM, gzipHeaders, streamHeaders } from './headers.js'
import { answerPoll, isPoll } from './long-poll.js'
import { warnOfEarlyEnd, warnOfMistakes } from './mistakes.js'
import { ignoreDisconnects, isGone, Opening } from './opening.js'
import { type ResolvedRouteOptions, resolveSseOptions, type SseOptions } from './options.js'
import { admitsHost, admitsOrigin, keepCorsHeaders, preflight } from './origins.js'

/** What `sse()` returns: a Koa middleware, with the pool that its streams join. */
export type SseMiddleware<Events extends object, Sse> = Middleware &
  Middleware<
    DefaultState,
    {
      /** The request's event stream; undefined only where `matchQuery` does not match. */
      sse: Sse
    }
  > & {
    /** The option `pool`, or the pool made from the pool options. */
    readonly pool: ClientPool<Events>
  }

/**
 * Gives a request an event stream, `ctx.sse`. Mount it on a route: `router.get('/events', sse())`;
 * the route needs no handler of its own. Without `@koa/router`, add one that does nothing, `() => {}`, if
 * middleware after it answers all other URLs. See {@link RouteOptions} for the options and their defaults.
 *
 * The response opens when the handler has returned and the outer middleware have finished, so that
 * their headers and cookies are kept. If the handler keeps running, it opens at its first `send()`.
 *
 * Requests are refused before the handler runs: with 400 for a wrong id or channel name, 401 if
 * `expiresAt` has passed, 403 for an origin or host that is not allowed, 406 if they do not accept
 * `text/event-stream`, 429 for a stream too many of one client or address, and 503 while the pool is full.
 * While it is closing, they get an empty stream that tells the browser when to reconnect. A client whose stream was ended by `end()` or `remove()` gets
 * 204, which stops its `EventSource` ([WHATWG HTML, "Server-sent
 * events"](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
 *
 * @throws TypeError that names the option, when one is unknown or wrong.
 * @example
 * ```ts
 * const pool = new ClientPool()
 * router.get('/event/push', sse({ pool, id: ctx => ctx.query.id }), ctx => {
 *   ctx.sse.send({ event: 'ready', data: { id: ctx.sse.id } })
 * })
 * ```
 */
export function sse<Events extends object = EventMap>(
  options: SseOptions<Events> & { matchQuery: string },
): SseMiddleware<Events, EventStream<Events> | undefined>
export function sse<Events extends object = EventMap>(
  options?: SseOptions<Events>,
): SseMiddleware<Events, EventStream<Events>>
export function sse<Events extends object = EventMap>(options: SseOptions<Events> = {}) {
  const { pool: given, poolOptions, route } = resolveSseOptions(options)
  const pool = given ?? new ClientPool<Events>(poolOptions)
  return Object.assign(eventStreams(hubOf(pool), route), { pool })
}

/**
 * Finds the log that a request reads instead of the pool's events. Undefined if there is none: it has answered
 * the request then, or throws an error with a status. `'store'` if that cannot be known now.
 */
export type FindPages = (
  ctx: Context,
  lastEventId: string,
) => Promise<OpenPages | 'store' | undefined>

/** The middleware of a route. @param find for a route that has logs of its own, such as runs. */
export function eventStreams(hub: Hub, route: ResolvedRouteOptions, find?: FindPages): Middleware {
  const { closeEvent, resume, done } = route
  const streamRoute = {
    closeEvent,
    // Pages have ids of their own.
    resume: resume && find === undefined,
    hello: HELLO,
    ping: done === undefined ? undefined : COMMENT_HEARTBEAT,
    done: done === undefined ? undefined : encodeData(done, hub.options),
  }
  const restrictsSites = route.allowedHosts !== undefined || route.allowedOrigins !== undefined
  const warns = process.env.NODE_ENV !== 'production'
  const headersOf = route.compress ? gzipHeaders : streamHeaders
  const open = (ctx: Context, stream: Stream) => {
    hub.open(stream, headersOf(ctx), route.retry && randomBetween(route.retry))
  }

  async function eventStream(ctx: Context, next: Next): Promise<unknown> {
    if (!matches(ctx, route)) return next()
    try {
      // Each `await` costs every request a turn of the microtask queue.
      if (restrictsSites) await checkSite(ctx, hub, route)
      return await answer(ctx, next)
    } catch (error) {
      keepCorsHeaders(ctx, error, route)
      throw error
    }
  }

  async function answer(ctx: Context, next: Next): Promise<unknown> {
    negotiate(ctx, hub, route)
    if (ctx.method === 'OPTIONS') return preflight(ctx, route)
    const lastEventId = lastEventIdOf(ctx, route)
    if (lastEventId === END_ID) return stopReconnecting(ctx)
    const { addresses } = hub
    const address = addresses.isLimited ? addressOf(ctx, hub.options.trustedProxies) : undefined
    const early = hub.refusal(undefined, ctx.res) ?? addresses.refusal(address)
    if (early !== undefined) return refuse(ctx, hub, route, early)
    const turn = hub.turns.take()
    if (turn !== undefined) await turn

    const { id, channels, expiresAt } = await identify(ctx, hub, route)
    if (warns) warnOfEarlyEnd(ctx)
    if (isGone(ctx)) return undefined
    const openPages = find && (await find(ctx, lastEventId))
    if (find !== undefined && (openPages === undefined || isGone(ctx))) return undefined
    if (openPages === 'store') return refuse(ctx, hub, route, openPages)
    const isHead = ctx.method === 'HEAD'
    const polls = route.longPoll && isPoll(ctx)
    if (isHead && !polls) return headersOnly(ctx, headersOf(ctx))
    // Again, because others may have taken the last place while this one was being identified.
    const late = isHead
      ? undefined
      : (hub.refusal(id, polls ? undefined : ctx.res) ?? addresses.full(address))
    if (late !== undefined) return refuse(ctx, hub, route, late)
    if (polls) {
      ignoreDisconnects(ctx)
      const request = [
        { id, channels },
        lastEventId,
        route.replay,
        route.closeEvent,
        openPages,
      ] as const
      // HEAD is answered at once, so it must not take another's place.
      const poll = isHead ? hub.subscribe(...request) : hub.poll(...request)
      return answerPoll(ctx, poll, expiresAt).finally(addresses.enter(address))
    }

    if (ctx.sse !== undefined) {
      throw new Error('ctx.sse is set already: sse() is mounted twice on this request')
    }
    // Commit: when Koa would answer, or soon after the handler's first send if it is still running.
    const opening = new Opening(ctx, open)
    const stream = hub.admit({
      id,
      res: ctx.res,
      route: streamRoute,
      replay: route.replay,
      channels,
      lastEventId,
      opening,
      openPages,
    })
    opening.clearBody()
    opening.begin(stream)
    const type = warns ? ctx.response.get('Content-Type') : ''
    if (address !== undefined) stream.onceClosed(addresses.enter(address))
    hub.expiry.add(stream, expiresAt)
    if (route.maxAge !== undefined) rotate(stream, randomBetween(route.maxAge))
    ctx.sse = stream.face
    try {
      const result = isLastOfRoute(ctx, eventStream) ? undefined : await next()
      if (warns) warnOfMistakes(ctx, opening, type)
      return result
    } catch (error) {
      opening.fail(error)
      throw error
    } finally {
      opening.handled()
    }
  }

  return eventStream
}

/**
 * Whether `@koa/router` has no handler after this on the route. What comes next is then mounted for other
 * URLs: a 404 page, a single-page app's fallback or `/:page`, which would answer instead of the stream.
 */
function isLastOfRoute(ctx: Context, middleware: Middleware): boolean {
  const layers: RouterLayer[] = ctx.matched ?? []
  const routes = layers.filter(({ methods }) => methods.includes(ctx.method))
  const at = routes.findIndex(({ stack }) => stack.at(-1) === middleware)
  // The handler may be registered by a call of its own, for the same path.
  return at !== -1 && !routes.slice(at + 1).some(({ path }) => path === routes[at]?.path)
}

interface RouterLayer {
  readonly path: unknown
  readonly methods: readonly string[]
  readonly stack: readonly unknown[]
}

function matches(ctx: Context, { matchQuery }: ResolvedRouteOptions): boolean {
  return matchQuery === undefined || Object.hasOwn(ctx.query, matchQuery)
}

/** Refuses pages whose origin, or whose name for this host, is not allowed. */
async function checkSite(ctx: Context, hub: Hub, route: ResolvedRouteOptions): Promise<void> {
  const isOurHost = admitsHost(ctx, route)
  if (isOurHost && (await admitsOrigin(ctx, route))) return
  hub.countRefusal('origin')
  ctx.throw(403, isOurHost ? 'This origin may not connect' : 'This host name is not served')
}

/** Refuses clients that do not accept a stream. */
function negotiate(ctx: Context, hub: Hub, route: ResolvedRouteOptions): void {
  const { accept, longPoll, compress } = route
  if (longPoll) ctx.vary('Accept')
  if (compress) ctx.vary('Accept-Encoding')
  if (accept === 'any' || acceptsStreams(ctx) || (longPoll && isPoll(ctx))) return
  hub.countRefusal('type')
  ctx.throw(406, `This resource is a ${EVENT_STREAM}`)
}

function acceptsStreams(ctx: Context): boolean {
  const { accept } = ctx.req.headers
  // What every EventSource sends. For `ctx.accepts`, Koa would keep a parser with each open stream.
  return accept === EVENT_STREAM || Boolean(ctx.accepts(EVENT_STREAM))
}

/**
 * "A client can be told to stop reconnecting using the HTTP 204 No Content response code" (WHATWG HTML,
 * 9.2.1).
 */
function stopReconnecting(ctx: Context): void {
  ctx.status = 204
}

function refuse(ctx: Context, hub: Hub, route: ResolvedRouteOptions, refusal: Refusal): void {
  hub.countRefusal(refusal)
  ignoreDisconnects(ctx)
  if (refusal === 'duplicate') ctx.throw(429, 'This client has too many streams open')
  const milliseconds = randomBetween(RETRY_MS)
  // A 503 would stop the browsers that a closing pool itself has told to reconnect, and those whose stream was cut
  // by the outage that now refuses them.
  const tellsRetry = route.overflow === 'retry' || refusal === 'draining' || refusal === 'store'
  if (tellsRetry && isForBrowsers(ctx, route)) {
    ctx.set(streamHeaders(ctx))
    // On the same connection the client would come back to this process, and keep it from ending.
    if (refusal === 'draining') leaveConnection(ctx.res)
    ctx.status = 200
    ctx.body = retryLater(refusal, milliseconds)
    return
  }
  const isOfAddress = refusal === 'address' || refusal === 'rate'
  const why = WHY[refusal] ?? `The event stream is ${refusal}`
  // Exposed, because otherwise Koa would log a stack for each client that a full pool refuses.
  ctx.throw(isOfAddress ? 429 : 503, `${why}; try again later`, {
    expose: true,
    headers: { 'Retry-After': String(Math.ceil(milliseconds / 1000)) },
  })
}

const WHY: Partial<Record<Refusal, string>> = {
  address: 'Too many streams from this address',
  rate: 'Too many streams from this address',
  connection: 'This connection has too many streams open',
  store: 'The store of the run is out of reach',
}

/**
 * Whether the client understands an empty stream with a `retry`. A poll parses JSON; a client of a route with `done`
 * would take an empty stream for an empty answer. Both decide on their own when to try again.
 */
function isForBrowsers(ctx: Context, route: ResolvedRouteOptions): boolean {
  return route.done === undefined && !(route.longPoll && isPoll(ctx))
}

/** Spread over some seconds, so that refused clients do not all return at once. */
const RETRY_MS: readonly [number, number] = [2000, 10_000]

/** The client's id and channels, from `identify` or from the options `id` and `channels`. */
async function identify(
  ctx: Context,
  hub: Hub,
  route: ResolvedRouteOptions,
): Promise<{ id: string; channels: readonly string[]; expiresAt: number }> {
  if (route.identify === undefined) {
    const id = idOf(ctx, hub, await route.id?.(ctx))
    const names = await route.channels?.(ctx)
    const channels = channelsOf(ctx, hub, names, 'option "channels" must return an array')
    return { id, channels, expiresAt: Number.POSITIVE_INFINITY }
  }
  const identity: unknown = await route.identify(ctx)
  if (!isRecord(identity)) {
    throw new TypeError(
      `sse(): option "identify" must return an object such as { id: 'ada', channels: ['news'] }; got ${got(identity)}. To refuse the request, call ctx.throw(401)`,
    )
  }
  const id = idOf(ctx, hub, identity.id)
  const expected = 'option "identify" must return "channels" as an array'
  const channels = channelsOf(ctx, hub, identity.channels, expected)
  return { id, channels, expiresAt: expiresAtOf(ctx, hub, identity.expiresAt) }
}

/** Refused here, because a stream that closes at once would bring its browser back in a loop. */
function expiresAtOf(ctx: Context, hub: Hub, given: unknown): number {
  const time = timeOf('sse(): "expiresAt" from option "identify"', given)
  if (time > Date.now()) return time
  hub.countRefusal('expired')
  return ctx.throw(401, 'The session has expired')
}

function idOf(ctx: Context, hub: Hub, given: unknown): string {
  if (given === undefined || given === null) return randomUUID()
  const id = typeof given === 'number' && Number.isFinite(given) ? String(given) : given
  if (isClientId(id)) return id
  hub.countRefusal('id')
  return ctx.throw(
    400,
    `The id must be 1 to 256 characters without control characters; got ${got(given)}`,
  )
}

function channelsOf(ctx: Context, hub: Hub, given: unknown, expected: string): readonly string[] {
  const names = given ?? []
  if (!Array.isArray(names)) throw new TypeError(`sse(): ${expected}; got ${got(names)}`)
  try {
    checkChannels(names)
  } catch (error) {
    // Names often come from the query, so a wrong one is a mistake of the client, not a 500.
    hub.countRefusal('id')
    ctx.throw(400, (error as Error).message)
  }
  return names
}

function headersOnly(ctx: Context, headers: Record<string, string>): void {
  ctx.status = 200
  ctx.set(headers)
}

function rotate(stream: Stream, age: number): void {
  const timer = setTimeout(() => stream.close('rotated'), age).unref()
  // Each stream has a duration of its own, and Node keeps a list for each duration until it has passed, unless a
  // timer that holds the process is the last to be cleared.
  stream.onceClosed(() => clearTimeout(timer.ref()))
}
