/** The cursor that a request brings. */
import type { Context } from 'koa'
import { END_ID } from '../wire/frames.js'

/** More than an id of a log can have, with what marks it as one in history: see history.ts. */
const MAX_CURSOR = 256

/** The header wins: the query parameter is for pages and for polyfills that cannot set the header. */
export function lastEventIdOf(ctx: Context, { resume }: { readonly resume: boolean }): string {
  const header = ctx.get('Last-Event-ID')
  if (header !== '') return keptCursor(header, resume)
  const { lastEventId } = ctx.query
  // A page that has stored the end id is a new one: only a reconnect, which has the header, is to stop.
  if (typeof lastEventId !== 'string' || lastEventId === END_ID) return ''
  return keptCursor(lastEventId, resume)
}

/**
 * What a stream keeps of a cursor. One that is too long for an id of the log is cut, not dropped: its client
 * has missed something and needs a gap. Without `resume` the ids are the app's own, of any length.
 */
export function keptCursor(given: string, resume: boolean): string {
  // A copy, because a slice would keep the whole header or URL in memory.
  return Buffer.from(resume ? given.slice(0, MAX_CURSOR) : given).toString()
}
