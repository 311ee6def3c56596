/**
 * When a stream's response opens: exactly where Koa would answer, so that cookies and headers which
 * outer middleware set on their way out are kept.
 *
 * Koa asks `ctx.respond` at that point and nowhere else, so an own getter there opens the stream and
 * tells Koa to keep out. A Readable as body would do too, but makes an error of every browser that
 * leaves; opening earlier loses late headers and asynchronous sessions.
 */
import type { Context } from 'koa'
import type { EventStream } from './stream.js'

export interface Opening {
  /** From now on the stream waits for Koa to answer. */
  begin(stream: EventStream): void
  /** The handler has sent something: if it is still at work after this turn, the stream opens then. */
  soon(): void
  /** The handler has returned: from now on only Koa opens the stream, when all around are done. */
  handled(): void
  /** The handler has failed. */
  fail(error: unknown): void
}

/** Errors of the connection itself: a browser that leaves is no news. */
const LEFT = new Set([
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_HTTP2_STREAM_ERROR',
  'ECONNRESET',
  'EPIPE',
])

export function deferOpening(ctx: Context, open: (stream: EventStream) => void): Opening {
  let stream: EventStream | undefined
  let failure: unknown
  let takenOver = false
  let isHandled = false

  const commit = () => {
    if (stream === undefined || stream.isOpen) return
    if (isGone(ctx)) stream.markClosed('client')
    // Somebody has begun to answer through `ctx.res`: what we wrote would land in his body.
    else if (ctx.headerSent) stream.markClosed('end')
    else if (!stream.isClosed) open(stream)
  }

  const hasOtherAnswer = () => ctx.status !== 200 || (ctx.body !== undefined && ctx.body !== null)

  /** Koa's question, "shall I answer?": false for no. */
  const respond = () => {
    if (stream === undefined) return true
    if (stream.isOpen || ctx.headerSent || isGone(ctx)) {
      commit()
      return false
    }
    if (takenOver) return false
    if (hasOtherAnswer()) {
      // The place in the pool is free again.
      stream.markClosed('end')
      return true
    }
    if (stream.isClosed) {
      // It was closed while the handler ran, for sending more than may wait; there is no answer.
      ctx.res.destroy()
      return false
    }
    commit()
    return false
  }

  const report = ctx.onerror
  const onerror = (error: NodeJS.ErrnoException | null) => {
    if (error === null || error === undefined) return
    const hasLeft = ctx.headerSent ? LEFT.has(error.code ?? '') : isGone(ctx)
    if (!ctx.headerSent) stream?.markClosed(hasLeft ? 'client' : 'error')
    // The handler's own error is news even if it looks like one of the connection.
    if (error === failure || !hasLeft) report.call(ctx, error)
  }

  return {
    begin(opened) {
      stream = opened
      // Koa's default is 404; who changes it from now on has answered. Not by `ctx.status`, after
      // which Koa would no longer make 200 of a body, should the handler fail and another answer.
      ctx.res.statusCode = 200
      Object.defineProperty(ctx, 'respond', {
        configurable: true,
        enumerable: true,
        get: respond,
        set: (value: unknown) => {
          // `ctx.respond = false` further in: somebody writes to `ctx.res` himself.
          takenOver = value === false
          if (takenOver) stream?.markClosed('end')
        },
      })
      Object.defineProperty(ctx, 'onerror', { configurable: true, writable: true, value: onerror })
    },
    soon() {
      setImmediate(() => {
        // A session store that takes its time would come too late with its cookie.
        if (!isHandled && !hasOtherAnswer()) commit()
      })
    },
    handled() {
      isHandled = true
    },
    fail(error) {
      failure = error
      if (stream?.isOpen) {
        stream.cut()
        return
      }
      stream?.markClosed('error')
      // As if no stream had been here, for whoever handles the error and answers instead.
      if (!ctx.headerSent) ctx.res.statusCode = 404
      Reflect.deleteProperty(ctx, 'respond')
    },
  }
}

/** Whether the client has left already. */
export function isGone(ctx: Context): boolean {
  return ctx.res.destroyed || ctx.req.socket.destroyed || ctx.req.aborted === true
}
