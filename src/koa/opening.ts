/**
 * When a stream's response opens: exactly where Koa would answer, so that cookies and headers which
 * outer middleware set on their way out are kept.
 *
 * Koa asks `ctx.respond` at that point and nowhere else, so an own getter there opens the stream and
 * tells Koa to keep out. A Readable as body would do too, but makes an error of every browser that
 * leaves; opening earlier loses late headers and asynchronous sessions.
 */
import type { Context } from 'koa'
import type { EventStream } from '../stream/stream.js'

/** Where a context has its opening, until that is over. */
const OPENING = Symbol('koa-sse-pool.opening')

/** Errors of the connection itself: a browser that leaves is no news. */
const LEFT = new Set([
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_HTTP2_STREAM_ERROR',
  'ECONNRESET',
  'EPIPE',
])

/** One request's way from the handler to the open stream. */
export class Opening {
  readonly #ctx: Context
  readonly #open: (ctx: Context, stream: EventStream) => void
  #stream: EventStream | undefined
  #failure: unknown
  #isTakenOver = false
  #isHandled = false

  constructor(ctx: Context, open: (ctx: Context, stream: EventStream) => void) {
    this.#ctx = ctx
    this.#open = open
  }

  /** From now on the stream waits for Koa to answer. */
  begin(stream: EventStream): void {
    this.#stream = stream
    // Koa's default is 404; who changes it from now on has answered. Not by `ctx.status`, after
    // which Koa would no longer make 200 of a body, should the handler fail and another answer.
    this.#ctx.res.statusCode = 200
    this.#ctx[OPENING] = this
    Object.defineProperties(this.#ctx, ACCESSORS)
  }

  /** The handler has sent something: if it is still at work after this turn, the stream opens then. */
  soon(): void {
    setImmediate(() => {
      // A session store that takes its time would come too late with its cookie.
      if (!this.#isHandled && !this.#hasOtherAnswer) this.#commit()
    })
  }

  /** The handler has returned: from now on only Koa opens the stream, when all around are done. */
  handled(): void {
    this.#isHandled = true
  }

  /** The handler has failed. */
  fail(error: unknown): void {
    this.#failure = error
    if (this.#stream?.isOpen) {
      this.#stream.cut()
      return
    }
    this.#stream?.markClosed('error')
    // As if no stream had been here, for whoever handles the error and answers instead.
    if (!this.#ctx.headerSent) this.#ctx.res.statusCode = 404
    Reflect.deleteProperty(this.#ctx, 'respond')
  }

  /** `ctx.respond = false` further in: somebody writes to `ctx.res` himself. */
  takeOver(): void {
    this.#isTakenOver = true
    this.#stream?.markClosed('end')
  }

  /** Koa's question, "shall I answer?": false for no. */
  respond(): boolean {
    const ctx = this.#ctx
    const stream = this.#stream as EventStream
    const mayOpen = stream.isOpen || ctx.headerSent || isGone(ctx)
    if (!mayOpen) {
      if (this.#isTakenOver) return false
      if (this.#hasOtherAnswer) {
        // The place in the pool is free again.
        stream.markClosed('end')
        return true
      }
      if (stream.isClosed) {
        // It was closed while the handler ran, for sending more than may wait; there is no answer.
        ctx.res.destroy()
        return false
      }
    }
    this.#commit()
    stream.settle()
    // Nobody asks again; kept, it would cost each idle stream half a kilobyte.
    ctx[OPENING] = undefined
    return false
  }

  report(error: NodeJS.ErrnoException): void {
    const { headerSent } = this.#ctx
    const hasLeft = headerSent ? LEFT.has(error.code ?? '') : isGone(this.#ctx)
    if (!headerSent) this.#stream?.markClosed(hasLeft ? 'client' : 'error')
    // The handler's own error is news even if it looks like one of the connection.
    if (error === this.#failure || !hasLeft) reportToKoa(this.#ctx, error)
  }

  #commit(): void {
    const stream = this.#stream as EventStream
    if (stream.isOpen) return
    if (isGone(this.#ctx)) stream.markClosed('client')
    // Somebody has begun to answer through `ctx.res`: what we wrote would land in his body.
    else if (this.#ctx.headerSent) stream.markClosed('end')
    else if (!stream.isClosed) this.#open(this.#ctx, stream)
  }

  get #hasOtherAnswer(): boolean {
    const { status, body } = this.#ctx
    return status !== 200 || (body !== undefined && body !== null)
  }
}

/** The same functions for all contexts: a pair for each would cost a hidden class for each. */
const ACCESSORS: PropertyDescriptorMap & ThisType<Context & { [OPENING]?: Opening }> = {
  respond: {
    configurable: true,
    enumerable: true,
    get() {
      return this[OPENING]?.respond() ?? false
    },
    set(value: unknown) {
      if (value === false) this[OPENING]?.takeOver()
    },
  },
  onerror: {
    configurable: true,
    writable: true,
    value(error: NodeJS.ErrnoException | null | undefined) {
      if (error === null || error === undefined) return
      const opening = this[OPENING]
      if (opening !== undefined) opening.report(error)
      else if (!LEFT.has(error.code ?? '')) reportToKoa(this, error)
    },
  },
}

function reportToKoa(ctx: Context, error: Error): void {
  Object.getPrototypeOf(ctx).onerror.call(ctx, error)
}

/** Whether the client has left already. */
export function isGone(ctx: Context): boolean {
  return ctx.res.destroyed || ctx.req.socket.destroyed || ctx.req.aborted === true
}
