/**
 * The interface of koa-sse-stream 0.2.0 on the core of this package, so that an app migrates by changing
 * one import.
 *
 * @module koa-sse-pool/compat
 */
import { randomUUID } from 'node:crypto'
import { Duplex, Stream as NodeStream } from 'node:stream'
import type { Context, DefaultState, Middleware, Next } from 'koa'
import { streamHeaders } from '../koa/headers.js'
import { isGone, Opening } from '../koa/opening.js'
import { hubOf } from '../pool/hub.js'
import { ClientPool } from '../pool/pool.js'
import type { Stream } from '../stream/stream.js'
import { Chunk } from '../wire/event.js'
import { type CompatStream, closedStream, frameOf, WritableEventStream } from './stream.js'

/** Options of `sse()`, with the names and defaults of koa-sse-stream 0.2.0. */
export interface CompatOptions {
  /** How many streams may be open at once; others get no `ctx.sse`. Default 10 000. */
  maxClients?: number | undefined
  /** Milliseconds between pings. Default 60 000. */
  pingInterval?: number | undefined
  /** The name of the event that `sendEnd()` sends when it is given no data. Default `'close'`. */
  closeEvent?: string | undefined
  /** Only requests with this query key, whatever its value, get a stream. Default: all do. */
  matchQuery?: string | undefined
}

export type { CompatStream }
export { sse }
export default sse

/** Requests that have a stream, because a second mount must not open another one. */
const streaming = new WeakSet<object>()

/** Requests that a full route has refused, because a global mount must not give them a stream either. */
const refused = new WeakSet<object>()

// The bytes of koa-sse-stream 0.2.0.
const HELLO = new Chunk(': ok\n\n')
const PING = new Chunk(': \n\n')

/**
 * Gives requests `ctx.sse`, as koa-sse-stream 0.2.0 does. On a route of `@koa/router` it always opens a
 * stream; mounted for the whole app, only if `ctx.sse` is read, or if nothing was answered to a client
 * whose `Accept` names `text/event-stream`. Each call has a pool of its own.
 *
 * @throws TypeError that names the option, when one is wrong.
 * @example
 * ```ts
 * router.get('/events', sse({ maxClients: 5000 }), ctx => {
 *   ctx.sse.send({ event: 'update', data: { count: 42 } })
 * })
 * ```
 */
function sse(options: CompatOptions = {}): Middleware<DefaultState, { sse: CompatStream }> {
  const { maxClients = 10_000, pingInterval = 60_000, matchQuery } = options
  const closeEvent = options.closeEvent || 'close'
  const pool = new ClientPool({ maxClients, pingInterval })
  const hub = hubOf(pool)
  const route = { closeEvent, resume: false, hello: HELLO, ping: PING }
  const closeFrame = frameOf({ event: closeEvent })
  // Called in the same turn, as in `koasse(options)(ctx, next)`: it was made for this request alone.
  let isNew = true
  queueMicrotask(() => {
    isNew = false
  })

  const open = (ctx: Context, events: Stream) => {
    prepare(ctx)
    if (ctx.method === 'HEAD') {
      ctx.res.end()
      events.release('end')
    } else hub.open(events, {}, undefined)
  }

  const begin = (ctx: Context) => {
    if (ctx.headerSent || hub.refusal(undefined, ctx.res) !== undefined) return undefined
    const { status } = ctx
    const opening = new Opening(ctx, open)
    const events = hub.admit({
      id: randomUUID(),
      res: ctx.res,
      route,
      replay: 'missed',
      channels: [],
      lastEventId: '',
      opening,
    })
    opening.begin(events)
    // A handler may read `ctx.sse` after it has answered 401, which must stay.
    if (status !== 404) ctx.status = status
    const stream = new WritableEventStream(events, closeFrame, error => ctx.onerror(error))
    // The `close` that would free its place has been emitted already.
    if (isGone(ctx)) events.close('client')
    streaming.add(ctx)
    return { stream, opening }
  }

  return async function eventStream(ctx: Context, next: Next): Promise<void> {
    const isForOneRequest = isNew
    const isAbsent =
      ctx.headerSent ||
      // Mounted twice, and the outer one is in use: both would answer the request.
      streaming.has(ctx) ||
      (matchQuery && ctx.query[matchQuery] === undefined)
    if (isAbsent) return next()
    const refusal = hub.refusal(undefined, ctx.res)
    if (refusal !== undefined) {
      hub.countRefusal(refusal)
      refused.add(ctx)
      // Otherwise a full route would get its stream from a global mount.
      expose(ctx, () => undefined)
      return next()
    }

    let used: { stream: CompatStream; opening: Opening } | undefined
    let closed: CompatStream | undefined
    let isOver = false
    const use = () => {
      if (!isOver) used ??= begin(ctx)
      if (used || !isOver) return used?.stream
      // Timers that the handler has started would end the process if there were no stream to call.
      closed ??= closedStream()
      return closed
    }
    expose(ctx, use)
    if (isForOneRequest || isOnRoute(ctx)) use()
    try {
      await next()
      if (!used && isUnanswered(ctx)) use()
      if (used) takeBody(ctx, used.stream)
    } catch (error) {
      used?.opening.fail(error)
      throw error
    } finally {
      // Outer middleware that reads `ctx.sse` on its way out, to log it, must not open a stream.
      isOver = true
      used?.opening.handled()
      if (isForOneRequest) closeAfter(used?.stream, pool)
    }
  }
}

/** Whether the client waits for a stream that the handler will use only later, such as in a timer. */
function isUnanswered(ctx: Context): boolean {
  if (ctx.headerSent || ctx.respond === false || ctx.body) return false
  if (streaming.has(ctx) || refused.has(ctx)) return false
  if (ctx.status !== 404 && ctx.status !== 200) return false
  // Named, because every client accepts it by `*/*`, and an unknown URL has to stay a 404 for those.
  return (
    ctx.get('Accept').includes('text/event-stream') && Boolean(ctx.accepts('text/event-stream'))
  )
}

/** Otherwise an app that makes a middleware for each request would keep a pool for each. */
function closeAfter(stream: CompatStream | undefined, pool: ClientPool): void {
  if (stream === undefined || stream.closed) void pool.close()
  else stream.once('close', () => void pool.close())
}

/** Opens the stream only when `ctx.sse` is read, so that a global mount leaves other responses alone. */
function expose(ctx: Context, read: () => CompatStream | undefined): void {
  for (const owner of [ctx, ctx.response]) {
    Object.defineProperty(owner, 'sse', {
      configurable: true,
      get: read,
      set: value => Object.defineProperty(owner, 'sse', { value, writable: true }),
    })
  }
}

/** Whether `@koa/router` runs this for one route, and not for many by `router.use`. */
function isOnRoute(ctx: Context): boolean {
  const path = ctx.routerPath ?? ctx._matchedRoute
  const layers: { path: unknown; methods: string[] }[] = ctx.matched ?? []
  return layers.some(layer => layer.path === path && layer.methods.length > 0)
}

function prepare(ctx: Context): void {
  const { socket } = ctx.req
  socket.setTimeout(0)
  socket.setNoDelay(true)
  socket.setKeepAlive(true)
  ctx.set(streamHeaders(ctx))
  ctx.set('Content-Type', 'text/event-stream')
}

/** Turns the body that the handler has set into events. */
function takeBody(ctx: Context, stream: CompatStream): void {
  const { body, status } = ctx
  if (status !== 200 || (body !== stream && isOrdinary(body))) return
  if (body && body !== stream) {
    if (body instanceof NodeStream) pipeBody(ctx, body as Duplex, stream)
    else stream.send(body)
  }
  if (body !== undefined) hideBody(ctx)
}

/**
 * Hides the body instead of unsetting it: Koa's setter would answer 204, or `null` in place of JSON,
 * destroy a stream that is just being piped, and rule out chunked encoding.
 */
function hideBody({ response }: Context): void {
  Object.defineProperty(response, 'body', {
    configurable: true,
    get: () => undefined,
    // Outer middleware may still answer in its own way.
    set: value => {
      Reflect.deleteProperty(response, 'body')
      response.body = value
    },
  })
  response.remove('Content-Type')
  response.remove('Content-Length')
}

/** Bodies that can only be read: Koa sends them, and the core frees the stream's place. */
function isOrdinary(body: unknown): boolean {
  if (body instanceof NodeStream) return !(body instanceof Duplex)
  return body instanceof ReadableStream || body instanceof Blob || body instanceof Response
}

function pipeBody(ctx: Context, body: Duplex, stream: CompatStream): void {
  // Koa 2 has listened since the body was set; a second listener would report the error twice.
  if (body.listenerCount('error') === 0) body.once('error', error => ctx.onerror(error))
  // After an error, `pipe` alone would leave the client waiting for the rest.
  body.once('error', () => stream.destroy())
  body.pipe(stream)
}
