/** `live=sse` (section 5.8): a stream's entries as Server-Sent Events. */
import { Readable } from 'node:stream'
import type { RunPage } from '../../log/run-store.js'
import { transportOf } from '../../stream/transport/select.js'
import { formatOffset } from '../offset.js'
import { Follower } from './follower.js'
import { type DurableRequest, onLeave, streamOf } from './request.js'
import { nextCursor } from './stream-cursor.js'
import { countWhole, formatOf, type StreamFormat } from './stream-format.js'

/** How long a response lasts, in milliseconds: about 60 s, and less than the idle timeout of common proxies. */
const LIFETIME_MS = 55_000

/** How long a client may take nothing, in milliseconds, before its connection is cut. */
const STALL_MS = 120_000

/** Answers with the page and all that follows, until the stream ends or the time is up. */
export function streamEvents(
  { ctx, store, id }: DurableRequest,
  page: RunPage,
  cursor: string | undefined,
): void {
  const format = formatOf(streamOf(page.run).config.contentType)
  const follower = new Follower(store, id, page.run, page.after)
  const stop = () => follower.stop()
  const timer = setTimeout(stop, LIFETIME_MS)
  const close = () => {
    clearTimeout(timer)
    stop()
  }
  onLeave(ctx, close)
  const transport = transportOf(ctx.res)
  transport.setTimeout(ctx.res, STALL_MS)
  ctx.res.once('timeout', () => transport.destroy(ctx.res))
  ctx.status = 200
  ctx.set({
    // Without a charset, which is always UTF-8.
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache, no-transform',
    // Without this nginx buffers the whole stream.
    'X-Accel-Buffering': 'no',
  })
  if (format.isBinary) ctx.set('Stream-SSE-Data-Encoding', 'base64')
  const frames = framesOf(page, follower, format, cursor)
  let failure: Error | undefined
  ctx.body = new Readable({
    // Asks for the next frame once the socket has taken the last one, so a slow reader holds one page.
    highWaterMark: 1,
    read() {
      frames.next().then(
        ({ value, done }) => this.push(done ? null : value),
        (error: Error) => {
          failure = error
          this.destroy(error)
        },
      )
    },
    destroy(error, callback) {
      close()
      callback(error)
    },
  })
  // Koa would report each client that leaves as an error of the app, and the store's error twice.
  const report = ctx.onerror
  ctx.onerror = (error: Error) => {
    if (ctx.headerSent && error !== failure) return
    failure = undefined
    report.call(ctx, error)
  }
}

async function* framesOf(
  first: RunPage,
  follower: Follower,
  format: StreamFormat,
  cursor: string | undefined,
): AsyncGenerator<string> {
  let page: RunPage | 'gone' | undefined = first
  while (page !== undefined && page !== 'gone') {
    const { run, after } = page
    const isAll = after + page.entries.length >= run.tail
    const isEnd = isAll && run.status === 'ended'
    const count =
      format.mayHoldBack && !isEnd ? countWhole(page.entries, isAll) : page.entries.length
    const entries = page.entries.slice(0, count)
    const position = after + count
    follower.advance(position, !isAll)
    const data = entries.length === 0 ? '' : frame('data', format.eventDataOf(entries))
    const control = {
      streamNextOffset: formatOffset(position, run),
      ...(isEnd ? { streamClosed: true } : { streamCursor: nextCursor(cursor) }),
      ...(position >= run.tail && { upToDate: true }),
    }
    const isNews = count > 0 || isEnd || page === first
    if (isNews) yield data + frame('control', JSON.stringify(control))
    if (isEnd) return
    page = await follower.next()
  }
}

/** The standard's parsers remove one space after the colon, so a line that begins with a space gets another. */
function frame(event: 'data' | 'control', data: string): string {
  const lines = data
    .split(/\r\n|\r|\n/)
    .map(line => `data:${line.startsWith(' ') ? ' ' : ''}${line}\n`)
  return `event: ${event}\n${lines.join('')}\n`
}
