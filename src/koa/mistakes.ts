/**
 * Warns in development of habits that leave a route without its stream. Only the first of each kind, and never
 * in production, where it may be meant so.
 */
import type { Context } from 'koa'
import type { Opening } from './opening.js'

const MISTAKES = {
  respond:
    'ctx.respond = false was set in the handler of an event stream, which closes the stream: the response is left to your code. Remove it, because ctx.sse opens the response by itself',
  write:
    'ctx.res was written to in the handler of an event stream, so the response has not the headers of one, and ctx.sse is closed. Send with ctx.sse.send()',
  body: 'ctx.body was set after sse(), so the response is that body and no event stream. Send with ctx.sse.send(), and refuse a request with ctx.throw(). If middleware that is mounted after the route has set it, give the route a handler, such as () => {}',
  status:
    'ctx.status was set after sse(), so the response has that status and no event stream. Remove it, because a stream is always 200, and refuse a request with ctx.throw()',
  type: 'ctx.type was set after sse(), without effect: an event stream is always text/event-stream. Remove it',
}

const warned = new Set<string>()

/** To be called when the handler has returned. @param type the response's type when it was called. */
export function warnOfMistakes(ctx: Context, opening: Opening, type: string): void {
  const mistake = mistakeOf(ctx, opening, type)
  if (mistake === undefined || warned.has(mistake)) return
  warned.add(mistake)
  process.emitWarning(`koa-sse-pool: ${MISTAKES[mistake]}.`)
}

function mistakeOf(
  ctx: Context,
  opening: Opening,
  type: string,
): keyof typeof MISTAKES | undefined {
  if (opening.isTakenOver) return 'respond'
  if (opening.isCommitted) return undefined
  // A response that is complete is an answer.
  if (ctx.headerSent) return ctx.res.writableEnded ? undefined : 'write'
  // An error or a redirect is an answer too.
  if (ctx.status >= 300) return undefined
  if (ctx.body !== undefined && ctx.body !== null) return 'body'
  if (ctx.status !== 200) return 'status'
  return ctx.response.get('Content-Type') === type ? undefined : 'type'
}
