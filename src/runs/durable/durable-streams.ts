/**
 * `durableStreams()`: the story of one request that speaks the [Durable Streams
 * protocol](https://github.com/durable-streams/durable-streams/blob/main/PROTOCOL.md). A durable stream is a
 * run in a store; sections in comments are those of the protocol.
 */
import type { Context, Middleware, Next } from 'koa'
import { SseError } from '../../lib/errors.js'
import type { RunStore } from '../../log/run-store.js'
import { appendToStream } from './append-stream.js'
import { createStream } from './create-stream.js'
import { resolveDurableOptions } from './options.js'
import { readHead, readStream } from './read-stream.js'
import { type DurableRequest, Refusal, streamOf } from './request.js'

/** The options of {@link durableStreams}. */
export interface DurableStreamsOptions {
  /** Where the streams are kept, such as `memoryRuns()`. */
  store: RunStore
  /**
   * The path that all streams are below; `'/'` for all paths. Behind `koa-mount` it is the rest after the mount
   * path. The path after it, as it is in the URL, is the stream's id in the store: `/v1/stream/chat/7` is
   * `chat/7`. Default `'/v1/stream'`.
   */
  prefix?: string | undefined
  /**
   * The largest request body, in bytes; a larger one is answered with 413. It is held in memory until it is
   * stored. Default 10 485 760 (10 MiB). A JSON array of more than 100 000 messages is answered with 413 too,
   * because a store must add them in one step.
   */
  maxBodyBytes?: number | undefined
  /**
   * How many characters of a stream are kept: beyond that its oldest appends are dropped, and offsets before
   * what is left are answered with 410. Text counts as it is, other bytes as base64. Default: everything is
   * kept.
   */
  maxStreamLength?: number | undefined
  /** How long `live=long-poll` waits before it is answered with 204, in milliseconds. Default 30 000. */
  longPollTimeout?: number | undefined
}

/**
 * Serves durable streams, for any client of the protocol. Requests outside the prefix go to the next
 * middleware, and so does `{prefix}/__ds`, which the protocol reserves for subscriptions.
 *
 * - `PUT` creates a stream (201; 200 if it is there with the same configuration, 409 with another), also as a
 *   fork of another one.
 * - `POST` appends (204, or 200 with `Producer-*` headers) and closes. `Stream-Seq` is compared for the whole
 *   stream, not for each writer.
 * - `GET` reads from `?offset=`, in pages of about 1 MiB; `live=long-poll` and `live=sse` wait for more.
 * - `HEAD` and `DELETE`.
 *
 * Mount it before body parsers: it stores the bytes of the body. It grants every request what it asks for, so put
 * your authorization in front. Pages of other origins also need a CORS middleware such as `@koa/cors`.
 *
 * @throws TypeError that names the option, when one is unknown or wrong.
 * @example
 * ```ts
 * app.use(authorize)
 * app.use(durableStreams({ store: memoryRuns() }))
 * ```
 */
export function durableStreams(options: DurableStreamsOptions): Middleware {
  const settings = resolveDurableOptions(options)
  return async (ctx: Context, next: Next) => {
    const id = streamIdOf(ctx.path, settings.prefix)
    if (id === undefined) return next()
    setCommonHeaders(ctx)
    const root = `${mountPathOf(ctx)}${settings.prefix}/`
    try {
      await handle({ ...settings, ctx, id, root })
    } catch (error) {
      refuse(ctx, error)
    }
  }
}

const METHODS = 'GET, HEAD, POST, PUT, DELETE, OPTIONS'

async function handle(request: DurableRequest): Promise<void> {
  switch (request.ctx.method) {
    case 'PUT':
      return createStream(request)
    case 'POST':
      return appendToStream(request)
    case 'GET':
      return readStream(request)
    case 'HEAD':
      return readHead(request)
    case 'DELETE':
      return deleteStream(request)
    case 'OPTIONS':
      return answerOptions(request.ctx)
    default:
      throw new Refusal(405, `Use one of ${METHODS}`, { Allow: METHODS })
  }
}

/** Section 5.4. */
async function deleteStream({ ctx, store, id }: DurableRequest): Promise<void> {
  streamOf(await store.get(id))
  // Another request may have been faster.
  streamOf(await store.delete(id))
  ctx.status = 204
}

/**
 * The path after the prefix; undefined outside it. Not decoded: what an app's authorization has seen as two paths
 * must not be one stream.
 */
function streamIdOf(path: string, prefix: string): string | undefined {
  if (!path.startsWith(`${prefix}/`)) return undefined
  const id = path.slice(prefix.length + 1)
  // Section 6: `__ds` must not be taken for a stream.
  return id === '' || /^__ds(\/|$)/.test(id) ? undefined : id
}

/** What `koa-mount` has removed from the front of the path: clients know streams by the whole path. */
function mountPathOf({ originalUrl, path }: Context): string {
  const [whole = ''] = originalUrl.replace(/^https?:\/\/[^/]+/i, '').split('?')
  return whole.endsWith(path) ? whole.slice(0, -path.length) : ''
}

/** Section 12.7. What the app has set itself is kept. */
const COMMON_HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  // Pages of other origins may not embed a stream. It does not concern `fetch`, for which CORS decides.
  'Cross-Origin-Resource-Policy': 'same-origin',
  // A stream can be created as `text/html`. Opened in a browser, its scripts must not run with the app's origin.
  'Content-Security-Policy': "sandbox; default-src 'none'",
  // Nothing is shared unless the app's CORS middleware allows the origin.
  'Access-Control-Expose-Headers':
    'ETag, Location, Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, Stream-Expires-At, Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq',
}

function setCommonHeaders({ res }: Context): void {
  for (const [name, value] of Object.entries(COMMON_HEADERS)) {
    if (!res.hasHeader(name)) res.setHeader(name, value)
  }
}

/** Allows no origin by itself: a CORS middleware in front decides on that, and mostly answers preflights too. */
function answerOptions(ctx: Context): void {
  ctx.status = 204
  ctx.set('Allow', METHODS)
  ctx.set('Access-Control-Allow-Methods', METHODS)
  ctx.set(
    'Access-Control-Allow-Headers',
    'Authorization, Content-Type, If-None-Match, Stream-Seq, Stream-TTL, Stream-Expires-At, Stream-Closed, Stream-Forked-From, Stream-Fork-Offset, Stream-Fork-Sub-Offset, Producer-Id, Producer-Epoch, Producer-Seq',
  )
}

function refuse(ctx: Context, error: unknown): void {
  const refusal = refusalOf(ctx, error)
  ctx.status = refusal.status
  ctx.set({ 'Cache-Control': 'no-store', ...refusal.headers })
  ctx.type = 'text/plain'
  ctx.body = refusal.message
}

/** @throws the error, if it is one of the app's or a bug. */
function refusalOf(ctx: Context, error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (!(error instanceof SseError)) throw error
  // The store is down. Clients of the protocol try again after a 503, but the app should hear of it too.
  ctx.app.emit('error', error, ctx)
  return new Refusal(503, 'The store of the streams is out of reach')
}
