/**
 * `sse()`: the story of one request, from Koa's `ctx` to an open event stream.
 */
import { randomUUID } from 'node:crypto'
import type { Context, DefaultState, Middleware, Next } from 'koa'
import { got } from '../lib/errors.js'
import { channelName, isClientId } from '../lib/names.js'
import { randomBetween } from '../lib/random.js'
import { type ResolvedRouteOptions, resolveSseOptions, type SseOptions } from '../pool/options.js'
import { ClientPool } from '../pool/pool.js'
import type { Refusal } from '../pool/stats.js'
import type { EventStream } from '../stream/stream.js'
import { Chunk, END_ID, type EventMap } from '../wire/event.js'
import { answerPoll, isPoll } from './long-poll.js'
import { isGone, Opening } from './opening.js'

const TYPE = 'text/event-stream'

const HELLO = new Chunk(':ok\n\n')

/** What `sse()` returns: a Koa middleware, with the pool that its streams join. */
export type SseMiddleware<Events extends object, Sse> = Middleware &
  Middleware<DefaultState, { sse: Sse }> & {
    readonly pool: ClientPool<Events>
  }

/**
 * Gives a request an event stream, `ctx.sse`. Mount it on a route: `router.get('/events', sse())`;
 * the route needs no handler of its own. See {@link SseOptions} for the options and their defaults.
 *
 * The response opens when the handler has returned and the outer middleware have finished, so that
 * their headers and cookies are kept; a handler that goes on after its first send streams from then.
 *
 * @throws TypeError that names the option, when one is unknown or wrong.
 */
export function sse<Events extends object = EventMap>(
  options: SseOptions<Events> & { matchQuery: string },
): SseMiddleware<Events, EventStream<Events> | undefined>
export function sse<Events extends object = EventMap>(
  options?: SseOptions<Events>,
): SseMiddleware<Events, EventStream<Events>>
export function sse<Events extends object = EventMap>(options: SseOptions<Events> = {}) {
  const { pool = undefined, poolOptions, route } = resolveSseOptions(options)
  const joined = pool ?? new ClientPool<Events>(poolOptions)
  return Object.assign(eventStreams(joined, route), { pool: joined })
}

function eventStreams<Events extends object>(
  pool: ClientPool<Events>,
  route: ResolvedRouteOptions,
) {
  const streamRoute = { closeEvent: route.closeEvent, resume: route.resume, hello: HELLO }
  const open = (ctx: Context, stream: EventStream) => {
    const retry = route.retry && randomBetween(route.retry)
    pool.open(stream as EventStream<Events>, streamHeaders(ctx), retry)
  }

  return async function eventStream(ctx: Context, next: Next): Promise<unknown> {
    if (!matches(ctx, route)) return next()
    await negotiate(ctx, pool, route)
    if (ctx.method === 'OPTIONS') return preflight(ctx)
    if (lastEventIdOf(ctx) === END_ID) return stayAway(ctx)
    const early = pool.refusal()
    if (early !== undefined) return refuse(ctx, pool, route, early)

    const id = await identify(ctx, pool, route)
    const channels = await channelsOf(ctx, route)
    if (isGone(ctx)) return undefined
    if (route.longPoll && isPoll(ctx)) {
      return answerPoll(ctx, pool.tap({ id, channels }, lastEventIdOf(ctx), route.replay))
    }
    if (ctx.method === 'HEAD') return headersOnly(ctx)
    // Again, because others may have taken the last place while this one was being identified.
    const late = pool.refusal(id)
    if (late !== undefined) return refuse(ctx, pool, route, late)

    if (ctx.sse !== undefined) {
      throw new Error('ctx.sse is set already: sse() is mounted twice on this request')
    }
    // Commit: when Koa would answer, or soon after the handler's first send if it is still at work.
    const opening = new Opening(ctx, open)
    const stream = pool.admit({
      id,
      res: ctx.res,
      route: streamRoute,
      replay: route.replay,
      channels,
      lastEventId: lastEventIdOf(ctx),
      opening,
    })
    opening.begin(stream as EventStream)
    if (route.maxAge !== undefined) rotate(stream as EventStream, randomBetween(route.maxAge))
    ctx.sse = stream
    try {
      return await next()
    } catch (error) {
      opening.fail(error)
      throw error
    } finally {
      opening.handled()
    }
  }
}

function matches(ctx: Context, { matchQuery }: ResolvedRouteOptions): boolean {
  return matchQuery === undefined || Object.hasOwn(ctx.query, matchQuery)
}

/** Refuses those who cannot read a stream, or may not from where they are. */
async function negotiate<Events extends object>(
  ctx: Context,
  pool: ClientPool<Events>,
  { allowedOrigins, longPoll }: ResolvedRouteOptions,
): Promise<void> {
  if (allowedOrigins !== undefined) {
    ctx.vary('Origin')
    const origin = ctx.get('Origin')
    if (!isSameSite(ctx, origin) && !(origin !== '' && (await allowedOrigins(origin)) === true)) {
      pool.countRefusal('origin')
      ctx.throw(403, 'This origin may not connect')
    }
    if (origin !== '') {
      // Exactly this origin, as browsers refuse `*` together with credentials.
      ctx.set('Access-Control-Allow-Origin', origin)
      ctx.set('Access-Control-Allow-Credentials', 'true')
    }
  }
  if (longPoll) ctx.vary('Accept')
  if (!acceptsStreams(ctx) && !(longPoll && isPoll(ctx))) {
    pool.countRefusal('type')
    ctx.throw(406, `This resource is a ${TYPE}`)
  }
}

function acceptsStreams(ctx: Context): boolean {
  const { accept } = ctx.req.headers
  // What every EventSource says. Koa would keep a parser of the header with each open stream.
  return accept === TYPE || Boolean(ctx.accepts(TYPE))
}

/** Browsers say themselves where a request comes from, and pages cannot forge it. */
function isSameSite(ctx: Context, origin: string): boolean {
  const site = ctx.get('Sec-Fetch-Site')
  if (site !== '') return site === 'same-origin' || site === 'none'
  // Not `ctx.origin`, which in Koa 3 is the header itself, and would allow everybody.
  return origin === '' || origin === `${ctx.protocol}://${ctx.host}`
}

/** A stream would be an answer without end to the question what is allowed (Fetch, "CORS-preflight"). */
function preflight(ctx: Context): void {
  ctx.status = 204
  ctx.set('Allow', 'GET, HEAD, POST')
  ctx.set('Access-Control-Allow-Methods', 'GET, HEAD, POST')
  ctx.set('Access-Control-Allow-Headers', 'Content-Type, Last-Event-ID')
}

/** "Clients will reconnect … unless the response is 204 No Content" (WHATWG HTML, 9.2.1). */
function stayAway(ctx: Context): void {
  ctx.status = 204
}

function refuse<Events extends object>(
  ctx: Context,
  pool: ClientPool<Events>,
  route: ResolvedRouteOptions,
  refusal: Refusal,
): void {
  pool.countRefusal(refusal)
  if (refusal === 'duplicate') ctx.throw(429, 'This client has too many streams open')
  const seconds = randomBetween(RETRY_SECONDS)
  if (route.overflow === 'retry') {
    ctx.set(streamHeaders(ctx))
    ctx.status = 200
    ctx.body = `:${refusal}\nretry: ${seconds * 1000 + randomBetween([0, 999])}\n\n`
    return
  }
  // Exposed, as otherwise Koa would log a stack for each client of a pool that is merely full.
  ctx.throw(503, `The event stream is ${refusal}; try again later`, {
    expose: true,
    headers: { 'Retry-After': String(seconds) },
  })
}

/** Spread over some seconds, so that those who were refused do not all come back at once. */
const RETRY_SECONDS: readonly [number, number] = [2, 10]

async function identify<Events extends object>(
  ctx: Context,
  pool: ClientPool<Events>,
  route: ResolvedRouteOptions,
): Promise<string> {
  const given = await route.id?.(ctx)
  if (given === undefined || given === null) return randomUUID()
  const id = typeof given === 'number' && Number.isFinite(given) ? String(given) : given
  if (isClientId(id)) return id
  pool.countRefusal('id')
  return ctx.throw(
    400,
    `The id must be 1 to 256 characters without control characters; got ${got(given)}`,
  )
}

async function channelsOf(ctx: Context, route: ResolvedRouteOptions): Promise<readonly string[]> {
  const names = (await route.channels?.(ctx)) ?? []
  if (!Array.isArray(names)) {
    throw new TypeError(`sse(): option "channels" must return an array; got ${got(names)}`)
  }
  try {
    for (const name of names) channelName(name)
  } catch (error) {
    // Names often come from the query, and a client's mistake is not the server's.
    ctx.throw(400, (error as Error).message)
  }
  return names
}

function headersOnly(ctx: Context): void {
  ctx.status = 200
  ctx.set(streamHeaders(ctx))
}

function rotate(stream: EventStream, age: number): void {
  const timer = setTimeout(() => stream.dismiss('rotated'), age).unref()
  void stream.closed.then(() => clearTimeout(timer))
}

/** The header wins, as a query parameter is only for polyfills that cannot set one. */
function lastEventIdOf(ctx: Context): string {
  const { lastEventId } = ctx.query
  return ctx.get('Last-Event-ID') || (typeof lastEventId === 'string' ? lastEventId : '')
}

const HEADERS = {
  'Content-Type': `${TYPE}; charset=utf-8`,
  'Cache-Control': 'no-cache, no-transform',
  // nginx holds back the whole stream without this.
  'X-Accel-Buffering': 'no',
}
const KEPT_ALIVE = { ...HEADERS, Connection: 'keep-alive' }

/** What the response says of itself; the app's own choice stays, such as `no-store`. */
export function streamHeaders({ req, res }: Context): Record<string, string> {
  // Forbidden on HTTP/2 (RFC 9113, 8.2.2), not understood by HTTP/1.0, and a lie to those who close.
  const isKeptAlive = req.httpVersion === '1.1' && !/\bclose\b/i.test(req.headers.connection ?? '')
  const headers = isKeptAlive ? KEPT_ALIVE : HEADERS
  if (!res.hasHeader('Cache-Control') && !res.hasHeader('X-Accel-Buffering')) return headers
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name === 'Content-Type' || !res.hasHeader(name)),
  )
}
