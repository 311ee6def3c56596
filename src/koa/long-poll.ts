/**
 * Long polling, for networks that hold back streams: the same entries by the same ids, replayed by the
 * same rule, as JSON. Each answer says where to go on, so between two polls nothing is lost.
 */
import type { Context } from 'koa'
import type { PoolEntry, Tap } from '../pool/subscription.js'
import { END_ID } from '../wire/event.js'

/** What a poll is answered. */
export interface PollAnswer {
  /** The `Last-Event-ID`, or `?lastEventId=`, of the next poll; `sse.end`: do not ask again. */
  cursor: string
  /** What came after the last cursor, oldest first; empty when nothing did for 25 seconds. */
  events: PoolEntry[]
}

/** Milliseconds for which an answer is held back; under every proxy's idle timeout. */
const PATIENCE = 25_000

/** Whether a request would rather be answered with JSON than with a stream. */
export function isPoll(ctx: Context): boolean {
  return ctx.accepts('text/event-stream', 'application/json') === 'application/json'
}

/** Answers with what waits, or with what comes first, or after a while with nothing. */
export async function answerPoll(ctx: Context, tap: Tap): Promise<void> {
  const since = tap.lastEventId
  let isOver = false
  const stop = () => {
    isOver = true
    tap.wake()
  }
  const timer = setTimeout(stop, PATIENCE)
  ctx.res.once('close', stop)
  try {
    let events = tap.take()
    // Who brings no cursor needs one first: what comes until he asks again would be lost. Without one
    // to give, as the log is empty, he would ask again at once.
    const mayWait = () => ctx.method !== 'HEAD' && (since !== '' || tap.cursorId === undefined)
    while (events.length === 0 && mayWait() && !isOver && !tap.isClosed) {
      await tap.wait()
      events = tap.take()
    }
    ctx.set('Cache-Control', 'no-store')
    ctx.body = { cursor: cursorAfter(events, tap), events } satisfies PollAnswer
  } finally {
    clearTimeout(timer)
    ctx.res.removeListener('close', stop)
    tap.close()
  }
}

function cursorAfter(events: readonly PoolEntry[], tap: Tap): string {
  const last = events.at(-1)
  // While it is not decided where to go on, the question stays the same.
  if (last === undefined) return tap.cursorId ?? tap.lastEventId
  // Told of the gap, he must not come with that cursor again, though an empty log has no other.
  return last.id === END_ID ? END_ID : (tap.cursorId ?? '')
}
