/**
 * Opens a stream's response exactly where Koa would answer, so that cookies and headers that outer
 * middleware set on their way out are kept.
 *
 * To answer, Koa reads `ctx.respond` and, in the same turn, calls `res.end()` with its default text. Our own
 * `res.end` opens the stream instead. Middleware may read `ctx.respond` too, so that alone must open nothing.
 * In between Koa reads `ctx.writable` and then its body, which is empty text for as long: otherwise Koa would
 * prepare a default text and its headers, for a fourth of the cost of a connect. A Readable as body would work too,
 * but raises an error whenever a browser leaves; opening earlier would lose late headers and asynchronous sessions.
 */
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { Context as KoaContext, Response } from 'koa'
import type { Stream } from '../stream/stream.js'

/** `_body` is what `ctx.body` returns; its setter would also set headers. */
type Context = KoaContext & { response: Response & { _body?: unknown } }

/** Where a context and its response keep their opening until the stream is open. */
const OPENING = Symbol('koa-sse-pool.opening')

/** Errors of the connection itself: a browser that leaves is not worth reporting. */
const DISCONNECTS = new Set([
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_HTTP2_STREAM_ERROR',
  'ECONNRESET',
  'EPIPE',
])

/** One request, from its handler to the open stream. */
export class Opening {
  readonly #ctx: Context
  readonly #open: (ctx: KoaContext, stream: Stream) => void
  #stream: Stream | undefined
  #end!: ServerResponse['end']
  /** What outer middleware had set before. */
  #preset: { status: number; body?: unknown } = { status: 404 }
  #failure: unknown
  /** The app has set `ctx.respond = false`, which closed the stream, even if it has set it back since. */
  isTakenOver = false
  /** Called when something else than the handler keeps the stream from opening, with the status that it has set. */
  onDropped: ((ctx: KoaContext, opening: Opening, status: number) => void) | undefined
  /** The last value of `ctx.respond` that the app has set. */
  #isKoas = true
  /** The stream is open, or has been. */
  isCommitted = false
  #isHandled = false
  /** Koa may be answering in this turn. */
  #isAsked = false

  constructor(ctx: KoaContext, open: (ctx: KoaContext, stream: Stream) => void) {
    this.#ctx = ctx
    this.#open = open
  }

  /** Removes a body that outer middleware has set as a default; to be called before `begin`. */
  clearBody(): void {
    const { body, status, response } = this.#ctx
    if (body === undefined || body === null) return
    this.#preset.body = body
    // For JSON, Koa would turn `undefined` into the body `null`.
    response.remove('Content-Type')
    response.body = undefined
    response.status = status
    // It would stay open: Koa 2 does not destroy a stream that was replaced.
    if (body instanceof Readable) body.destroy()
  }

  /** From now on the stream opens when Koa is about to answer. */
  begin(stream: Stream): void {
    this.#stream = stream
    // Koa's default is 404; middleware that changes the status from now on has answered. Not set by
    // `ctx.status`: if the handler failed and another answered, Koa would not set 200 for its body.
    const res: HookedResponse = this.#ctx.res
    this.#preset.status = res.statusCode
    res.statusCode = 200
    this.#end = res.end
    res[OPENING] = this
    res.end = end
    this.#ctx[OPENING] = this
    Object.defineProperties(this.#ctx, ACCESSORS)
  }

  /** The handler has sent something: if it is still running after this turn, the stream opens then. */
  soon(): void {
    setImmediate(() => {
      // A handler that has returned waits for Koa, or a slow session store is too late with its cookie.
      if (!this.#isHandled && !this.#hasOtherAnswer) this.#commit()
    })
  }

  /** The handler has returned: from now on only Koa opens the stream, after the outer middleware. */
  handled(): void {
    this.#isHandled = true
  }

  /** The handler has failed. */
  fail(error: unknown): void {
    this.#failure = error
    const wasOpen = this.#stream?.isOpen
    this.#stream?.close('error')
    if (wasOpen) return
    // Undo what `begin` did, for middleware that handles the error and answers instead.
    this.#unhook()
    if (!this.#ctx.headerSent) this.#restore()
    Reflect.deleteProperty(this.#ctx, 'respond')
  }

  /** The app has set `ctx.respond`. False: it writes to `ctx.res` itself. */
  setRespond(value: unknown): void {
    // Set back, Koa has to answer, or the request would wait for ever.
    this.#isKoas = value !== false
    if (this.#isKoas) return
    this.isTakenOver = true
    this.#stream?.release('end')
    this.#dropped(this.#ctx.status)
  }

  /** Whether `ctx.response` is the one that Koa has made. */
  get hasKoasResponse(): boolean {
    return this.#ctx.response.ctx === this.#ctx
  }

  /** The value of `ctx.respond`: false if Koa should not answer. */
  get respond(): boolean {
    const ctx = this.#ctx
    const stream = this.#stream as Stream
    if (stream.isOpen || ctx.headerSent || isGone(ctx)) {
      if (this.#isHandled) this.#finish()
      return false
    }
    if (!this.#isKoas) return false
    if (this.#hasOtherAnswer) {
      // Frees the place in the pool.
      if (this.#isHandled) {
        this.#dropped(ctx.status)
        stream.release('end')
      }
      return true
    }
    this.#isAsked = true
    void Promise.resolve(this).then(endTurn)
    return true
  }

  /** Called when `ctx.writable` is read. */
  offerEmptyText(): void {
    if (this.#isAsked) this.#ctx.response._body = ''
  }

  /** Koa has answered by now, if it was Koa that asked. */
  endTurn(): void {
    if (!this.#isAsked) return
    this.#isAsked = false
    this.#ctx.response._body = undefined
  }

  /** Called in place of `res.end`. */
  end(args: unknown[]): ServerResponse {
    const { res } = this.#ctx
    // Otherwise it is the answer of the app, or Koa's own for a body or an error.
    if (!this.#isAsked) {
      this.#unhook()
      return Reflect.apply(this.#end, res, args)
    }
    if (this.#stream?.isClosed && !isGone(this.#ctx)) {
      // It closed while the handler ran, which sent more than may wait: there is no answer.
      res.destroy()
      return res
    }
    // If Koa has prepared its default text all the same.
    if (res.hasHeader('Content-Length')) res.removeHeader('Content-Length')
    this.endTurn()
    this.#finish()
    return res
  }

  /** Called with the errors that Koa would report. */
  report(error: NodeJS.ErrnoException & { readonly status?: number }): void {
    const { headerSent } = this.#ctx
    const hasLeft = headerSent ? isDisconnect(error) : isGone(this.#ctx)
    if (!headerSent && !hasLeft && error.status === 404) this.#dropped(404)
    if (!headerSent) this.#stream?.release(hasLeft ? 'client' : 'error')
    // The handler has passed `ctx.sse.signal` on, and was stopped by it.
    const isStopped = error.name === 'AbortError' && this.#stream?.isClosed
    if (isStopped && (headerSent || hasLeft)) return
    // The handler's own error is reported even if it looks like an error of the connection.
    if (error === this.#failure || !hasLeft) reportToKoa(this.#ctx, error)
  }

  #finish(): void {
    this.#commit()
    this.#stream?.handedOver()
    // Not needed any more, and it would cost each idle stream half a kilobyte.
    this.#ctx[OPENING] = undefined
  }

  #commit(): void {
    const stream = this.#stream as Stream
    if (stream.isOpen) return
    this.#unhook()
    if (isGone(this.#ctx)) stream.release('client')
    // The app has begun to answer through `ctx.res`: what we wrote would land in its body.
    else if (this.#ctx.headerSent) {
      this.#dropped(this.#ctx.status)
      stream.release('end')
    } else if (!stream.isClosed) {
      this.isCommitted = true
      this.#open(this.#ctx, stream)
    }
  }

  #dropped(status: number): void {
    this.onDropped?.(this.#ctx, this, status)
    this.onDropped = undefined
  }

  #restore(): void {
    const { status, body } = this.#preset
    if (body !== undefined && !(body instanceof Readable)) this.#ctx.body = body
    this.#ctx.res.statusCode = status
  }

  #unhook(): void {
    const res: HookedResponse = this.#ctx.res
    if (res[OPENING] === undefined) return
    res[OPENING] = undefined
    // Not deleted, because an object that has lost a property is slower and larger. Middleware may have
    // wrapped ours.
    if (res.end === end) res.end = this.#end
  }

  get #hasOtherAnswer(): boolean {
    const { status, body } = this.#ctx
    const hasAnswer = status !== 200 || (body !== undefined && body !== null)
    return hasAnswer || !this.hasKoasResponse
  }
}

function endTurn(opening: Opening): void {
  opening.endTurn()
}

type HookedResponse = ServerResponse & { [OPENING]?: Opening | undefined }

function end(this: HookedResponse, ...args: unknown[]): ServerResponse {
  const opening = this[OPENING]
  if (opening !== undefined) return opening.end(args)
  return Reflect.apply(Object.getPrototypeOf(this).end, this, args)
}

/** The same functions for all contexts: a pair for each would cost a hidden class for each. */
const ACCESSORS: PropertyDescriptorMap & ThisType<Context & { [OPENING]?: Opening }> = {
  // Not enumerable, so that it is not read when the context is copied.
  respond: {
    configurable: true,
    get() {
      return this[OPENING]?.respond ?? false
    },
    set(value: unknown) {
      this[OPENING]?.setRespond(value)
    },
  },
  writable: {
    configurable: true,
    get() {
      this[OPENING]?.offerEmptyText()
      return this.response.writable
    },
  },
  onerror: {
    configurable: true,
    writable: true,
    value(error: NodeJS.ErrnoException | null | undefined) {
      if (error === null || error === undefined) return
      const opening = this[OPENING]
      if (opening !== undefined) opening.report(error)
      else if (!isDisconnect(error)) reportToKoa(this, error)
    },
  },
}

/** For a request that gets no stream: Koa reports nothing if its client leaves. */
export function ignoreDisconnects(ctx: KoaContext): void {
  Object.defineProperty(ctx, 'onerror', ACCESSORS.onerror as PropertyDescriptor)
}

function isDisconnect({ code }: NodeJS.ErrnoException): boolean {
  // HPE_…: a client that sends garbage after its request would otherwise print a stack each time.
  return DISCONNECTS.has(code ?? '') || String(code).startsWith('HPE_')
}

function reportToKoa(ctx: Context, error: Error): void {
  Object.getPrototypeOf(ctx).onerror.call(ctx, error)
}

/** Whether the client has left already. */
export function isGone(ctx: KoaContext): boolean {
  return ctx.res.destroyed || ctx.req.socket.destroyed || ctx.req.aborted === true
}
