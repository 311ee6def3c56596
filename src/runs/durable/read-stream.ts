/** GET and HEAD of durable streams (sections 5.5 to 5.8). */
import type { Context } from 'koa'
import type { RunPage } from '../../log/run-store.js'
import { formatOffset, parseOffset } from '../offset.js'
import { Follower, PAGE } from './follower.js'
import { type DurableRequest, onLeave, Refusal, streamOf } from './request.js'
import { nextCursor } from './stream-cursor.js'
import { streamEvents } from './stream-events.js'
import { formatOf } from './stream-format.js'

/** Section 5.5. Does not keep the stream from expiring. */
export async function readHead({ ctx, store, id }: DurableRequest): Promise<void> {
  const { run, config } = streamOf(await store.get(id))
  ctx.status = 200
  ctx.set({
    'Content-Type': config.contentType,
    'Cache-Control': 'no-store',
    'Stream-Next-Offset': formatOffset(run.tail, run),
  })
  if (config.ttl !== undefined) ctx.set('Stream-TTL', String(config.ttl))
  if (config.expiresAt !== undefined) ctx.set('Stream-Expires-At', config.expiresAt)
  if (run.status === 'ended') ctx.set('Stream-Closed', 'true')
}

export async function readStream(request: DurableRequest): Promise<void> {
  const query = queryOf(request.ctx)
  const page = await firstPage(request, query)
  if (query.live === 'sse') return streamEvents(request, page, query.cursor)
  if (query.live === 'long-poll') return answerPoll(request, page, query)
  return answerPage(request, page, query)
}

interface ReadQuery {
  /** `'now'` for the tail, -1 for the beginning, else an offset. */
  readonly offset: 'now' | -1 | { readonly position: number; readonly generation: string }
  readonly live: 'long-poll' | 'sse' | undefined
  readonly cursor: string | undefined
}

function queryOf(ctx: Context): ReadQuery {
  const { offset, live, cursor } = ctx.query
  if (live !== undefined && live !== 'long-poll' && live !== 'sse') {
    throw new Refusal(400, 'live must be "long-poll" or "sse"')
  }
  if (live !== undefined && offset === undefined) {
    throw new Refusal(400, `live=${live} needs an offset; -1 is the beginning, now the tail`)
  }
  return { offset: offsetOf(offset), live, cursor: cursor?.toString() }
}

function offsetOf(given: string | string[] | undefined): ReadQuery['offset'] {
  if (given === undefined || given === '-1') return -1
  if (given === 'now') return 'now'
  const offset = typeof given === 'string' ? parseOffset(given) : undefined
  if (offset === undefined) throw new Refusal(400, 'offset must be one that this stream has given')
  return offset
}

/** What is there after the offset. Keeps the stream from expiring, also if that is nothing. */
async function firstPage({ store, id }: DurableRequest, { offset }: ReadQuery): Promise<RunPage> {
  if (offset === 'now') {
    const { run } = streamOf(await store.get(id))
    const page = await store.read(id, run.tail, PAGE)
    const now = streamOf(page?.run).run
    return { run: now, after: now.tail, entries: [] }
  }
  const position = offset === -1 ? 0 : offset.position
  const page = await store.read(id, position, PAGE)
  const { run } = streamOf(page?.run)
  if (offset === -1) return page as RunPage
  // Beyond the tail is an offset of a fork that was deleted and created again, or of entries that an engine has
  // lost. To a client it means the same as one that is not kept any more: begin again.
  const isKept = offset.generation === run.generation && page?.after === position
  if (isKept && position <= run.tail) return page as RunPage
  throw notKept()
}

/** Section 5.6. */
function answerPage({ ctx }: DurableRequest, page: RunPage, query: ReadQuery): void {
  const { run, after, entries } = page
  const { isUpToDate, isClosed } = setProgress(ctx, page)
  if (query.live === 'long-poll') ctx.set('Stream-Cursor', nextCursor(query.cursor))
  if (query.offset === 'now') {
    ctx.set('Cache-Control', 'no-store')
  } else {
    // The time, because a fork that is created again has the same generation and positions.
    const stream = `${run.generation}-${run.createdAt.toString(36)}`
    const state = isClosed ? ':c' : isUpToDate ? ':t' : ''
    const etag = `"${stream}:${after}:${after + entries.length}${state}"`
    ctx.set('ETag', etag)
    ctx.set('Cache-Control', cacheControlOf(query, isUpToDate))
    if (hasCopy(ctx, etag)) {
      ctx.status = 304
      return
    }
  }
  const { config } = streamOf(run)
  ctx.status = 200
  ctx.set('Content-Type', config.contentType)
  ctx.body = formatOf(config.contentType).bodyOf(entries)
}

/**
 * Section 10.1. Private, because nothing here knows whether everyone may read the stream, and a shared cache would
 * answer without the app's authorization. An app whose streams are public sets its own header after `next()`.
 */
function cacheControlOf({ offset }: ReadQuery, isUpToDate: boolean): string {
  // A page from -1 may belong to a stream that has been deleted since, and a tail moves: from a cached copy a
  // reader that polls would see nothing new for a minute. The ETag makes asking cheap.
  return offset === -1 || isUpToDate
    ? 'private, no-cache'
    : 'private, max-age=60, stale-while-revalidate=300'
}

/**
 * RFC 9110, 13.1.2. Not `ctx.fresh`, which ignores `If-None-Match` of a request with `Cache-Control: no-cache`, as
 * `fetch` sends it.
 */
function hasCopy(ctx: Context, etag: string): boolean {
  const tags = ctx.get('If-None-Match').split(',')
  return tags.some(tag => ['*', etag].includes(tag.trim().replace(/^W\//, '')))
}

/** Section 5.7. */
async function answerPoll(request: DurableRequest, page: RunPage, query: ReadQuery): Promise<void> {
  const { ctx, store, id, longPollTimeout } = request
  const isOver = page.entries.length > 0 || page.run.status === 'ended'
  const next = isOver
    ? page
    : await nextPage(ctx, new Follower(store, id, page.run, page.after), longPollTimeout)
  if (next === 'gone') return answerGone(request)
  const { run, entries } = next ?? page
  if (entries.length > 0) return answerPage(request, next as RunPage, query)
  ctx.status = 204
  setProgress(ctx, next ?? page)
  ctx.set('Cache-Control', 'no-store')
  if (run.status !== 'ended') ctx.set('Stream-Cursor', nextCursor(query.cursor))
}

/** What comes next; undefined if nothing does in time, or the client leaves. */
async function nextPage(
  ctx: Context,
  follower: Follower,
  milliseconds: number,
): Promise<RunPage | 'gone' | undefined> {
  const stop = () => follower.stop()
  const timer = setTimeout(stop, milliseconds)
  onLeave(ctx, stop)
  try {
    return await follower.next()
  } finally {
    clearTimeout(timer)
    follower.stop()
  }
}

/** @throws Refusal, as the same request would get it now. */
async function answerGone({ store, id }: DurableRequest): Promise<never> {
  streamOf(await store.get(id))
  throw notKept()
}

function notKept(): Refusal {
  return new Refusal(410, 'What comes after this offset is not kept; read from offset -1')
}

/** Where the reader is after this page. */
function setProgress(ctx: Context, { run, after, entries }: RunPage) {
  const next = after + entries.length
  const isUpToDate = next >= run.tail
  const isClosed = isUpToDate && run.status === 'ended'
  ctx.set('Stream-Next-Offset', formatOffset(next, run))
  if (isUpToDate) ctx.set('Stream-Up-To-Date', 'true')
  if (isClosed) ctx.set('Stream-Closed', 'true')
  return { isUpToDate, isClosed }
}
