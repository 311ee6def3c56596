/**
 * Warns in development of habits that leave a route without its stream: of its handler's, and of middleware around it
 * that answers on its way out or does not wait for it. Only the first of each kind, and never in production, where
 * it may be meant so.
 */
import type { Context } from 'koa'
import type { Opening } from './opening.js'

type Mistake = 'respond' | 'write' | 'response' | 'body' | 'status' | 'type' | 'notFound'

const IN_HANDLER: Partial<Record<Mistake, string>> = {
  respond:
    'ctx.respond = false was set in the handler of an event stream, which closes the stream: the response is left to your code. Remove it, because ctx.sse opens the response by itself',
  write:
    'ctx.res was written to in the handler of an event stream, so the response has not the headers of one, and ctx.sse is closed. Send with ctx.sse.send()',
  response:
    'ctx.response was replaced in the handler of an event stream, so neither Koa nor ctx.sse can answer. Remove it, and set headers with ctx.set()',
  body: 'ctx.body was set after sse(), so the response is that body and no event stream. Send with ctx.sse.send(), and refuse a request with ctx.throw(). If middleware that is mounted after the route has set it, give the route a handler, such as () => {}',
  status:
    'ctx.status was set after sse(), so the response has that status and no event stream. Remove it, because a stream is always 200, and refuse a request with ctx.throw()',
  type: 'ctx.type was set after sse(), without effect: an event stream is always text/event-stream. Remove it',
}

const AROUND: Partial<Record<Mistake, string>> = {
  respond:
    'ctx.respond = false was set after await next(), by middleware around sse(), which closes the stream: the response is left to your code. Put `if (ctx.sse === undefined)` in front of it',
  write:
    'ctx.res was written to after await next(), by middleware around sse(), so the response has not the headers of an event stream, and ctx.sse is closed. Put `if (ctx.sse === undefined)` in front of it',
  response:
    'ctx.response was replaced after await next(), by middleware around sse(), so neither Koa nor ctx.sse can answer. Put `if (ctx.sse === undefined)` in front of it, or set headers with ctx.set()',
  body: 'ctx.body was set after await next(), by middleware around sse(), so the response is that body and no event stream. Put `if (ctx.sse === undefined)` in front of it',
  status:
    'ctx.status was set after await next(), by middleware around sse(), so the response has that status and no event stream. ctx.body = null sets it too, to 204. Put `if (ctx.sse === undefined)` in front of it',
  notFound:
    'ctx.status became 404 after await next(), by middleware around sse(), so there is no event stream. If it looks for a missing ctx.body, which a stream does not have yet, let it look for ctx.status === 404',
}

const BEFORE =
  'ctx.res had ended before sse() could begin its stream. Middleware in front of it must return or await next(), or Koa answers before the route does'

const warned = new Set<string>()

/** To be called before a stream is begun. */
export function warnOfEarlyEnd({ res }: Context): void {
  if (res.writableEnded) warn(BEFORE)
}

/**
 * To be called when the handler has returned. What middleware around it does from then on is looked at if it keeps the
 * stream from opening.
 *
 * @param type the response's type when the handler was called.
 */
export function warnOfMistakes(ctx: Context, opening: Opening, type: string): void {
  const mistake = mistakeOf(ctx, opening, ctx.status)
  if (mistake !== undefined) warn(IN_HANDLER[mistake])
  // Otherwise the handler has answered, and means it.
  else if (ctx.status === 200 && !ctx.headerSent) {
    if (ctx.response.get('Content-Type') !== type) warn(IN_HANDLER.type)
    opening.onDropped = warnOfMistakesAround
  }
}

function warnOfMistakesAround(ctx: Context, opening: Opening, status: number): void {
  // In a handler this is a refusal, but middleware around it cannot know that there is nothing.
  const mistake = status === 404 ? 'notFound' : mistakeOf(ctx, opening, status)
  if (mistake !== undefined) warn(AROUND[mistake])
}

function warn(text: string | undefined): void {
  if (text === undefined || warned.has(text)) return
  warned.add(text)
  process.emitWarning(`koa-sse-pool: ${text}.`)
}

function mistakeOf(ctx: Context, opening: Opening, status: number): Mistake | undefined {
  if (opening.isTakenOver) return 'respond'
  if (opening.isCommitted) return undefined
  // A response that is complete is an answer.
  if (ctx.headerSent) return ctx.res.writableEnded ? undefined : 'write'
  if (!opening.hasKoasResponse) return 'response'
  // An error or a redirect is an answer too, but nothing that has to be sent can be "not modified".
  if (status >= 300 && status !== 304) return undefined
  if (ctx.body !== undefined && ctx.body !== null) return 'body'
  return status === 200 ? undefined : 'status'
}
