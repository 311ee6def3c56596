/**
 * Long polling, for networks that hold back streams: the same entries with the same ids, replayed by the
 * same rules, as JSON. Each answer says where to continue, so nothing is lost between two polls.
 */
import type { Context } from 'koa'
import type { PoolEntry, Subscription } from '../pool/subscription.js'
import { END_ID } from '../wire/frames.js'

/** The JSON that a poll is answered with; see the option `longPoll`. */
export interface PollAnswer {
  /**
   * To send as `Last-Event-ID`, or `?lastEventId=`, with the next poll. `'sse.end'`: poll no more; in the
   * query it would start a new client.
   */
  cursor: string
  /** The entries after the poll's cursor, oldest first; empty if none came for 25 seconds. */
  events: PoolEntry[]
}

/** How long an answer is held back, in milliseconds; less than every proxy's idle timeout. */
const POLL_TIMEOUT_MS = 25_000

/** Whether a request prefers JSON to a stream. */
export function isPoll(ctx: Context): boolean {
  return ctx.accepts('text/event-stream', 'application/json') === 'application/json'
}

/** Answers with the entries that are there, else with the next ones, or with none after the timeout, or when
 * its client's rights run out. */
export async function answerPoll(
  ctx: Context,
  subscription: Subscription,
  expiresAt: number,
): Promise<void> {
  const since = subscription.lastEventId
  let isOver = false
  const stop = () => {
    isOver = true
    subscription.wake()
  }
  const timer = setTimeout(stop, Math.min(POLL_TIMEOUT_MS, expiresAt - Date.now()))
  ctx.res.once('close', stop)
  try {
    let events = subscription.read()
    // A client without a cursor gets one at once, or it would lose what comes before its next poll. It
    // waits only while the log is empty: without a cursor to get, it would poll again at once.
    const mayWait = () =>
      ctx.method !== 'HEAD' && (since !== '' || subscription.position === undefined)
    while (events.length === 0 && mayWait() && !isOver && !subscription.isClosed) {
      await subscription.news()
      events = subscription.read()
    }
    // In a burst the entry at the cursor may have left the window, and the next poll could not resume.
    while (events.length > 0 && !subscription.isClosed && subscription.position === undefined) {
      const more = subscription.read()
      if (more.length === 0) break
      events.push(...more)
    }
    ctx.set('Cache-Control', 'no-store')
    ctx.body = { cursor: cursorAfter(events, subscription), events } satisfies PollAnswer
  } finally {
    clearTimeout(timer)
    ctx.res.removeListener('close', stop)
    subscription.close()
  }
}

function cursorAfter(
  events: readonly PoolEntry[],
  { position, lastEventId }: Subscription,
): string {
  const last = events.at(-1)
  // While it is not decided where to continue, the cursor stays the same.
  if (last === undefined) return position ?? lastEventId
  // After a gap the client must not bring that cursor again, though an empty log has no other.
  return last.id === END_ID ? END_ID : (position ?? last.id ?? '')
}
