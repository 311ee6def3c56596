/**
 * `ctx.sse` of `koa-sse-pool/compat`: a Writable in front of an event stream, with the frames of
 * koa-sse-stream 0.2.0.
 */
import { Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { got, SseError } from '../lib/errors.js'
import type { CloseReason } from '../lib/reasons.js'
import type { Stream } from '../stream/stream.js'
import { encodeData } from '../wire/event.js'

type Callback = (error?: Error | null) => void

/**
 * `ctx.sse`: a writable stream that takes strings and `{ data, event, id, retry }`. It emits the events of
 * a Writable, `message` with each frame, and `close` once, whichever side closed.
 */
export interface CompatStream extends Writable {
  /** Whether nothing more can be sent: it was ended, or the client has left. */
  readonly ended: boolean

  /**
   * Sends an event: a string, or `{ data, event, id, retry }`; a string that begins with `:` is a
   * comment. Returns false when the caller should wait for `drain`, when called without an argument, and
   * after the end.
   *
   * @throws TypeError when `event`, `id` or `retry` has a line break; nothing is sent then.
   */
  send(data?: unknown, encoding?: unknown, callback?: Callback): boolean

  /** Sends the data, or the close event if there is none, then ends. A second call returns false. */
  sendEnd(data?: unknown, encoding?: unknown, callback?: Callback): boolean

  /** The same as {@link sendEnd}; `pipe` calls it when its source ends. */
  end(data?: unknown, encoding?: unknown, callback?: Callback): this

  /** Like {@link send}, but emits `error` for a wrong item, because `pipe` has no caller to throw to. */
  write(item: unknown, encoding?: unknown, callback?: Callback): boolean
}

/** What stands behind a `ctx.sse` that no response belongs to. */
const CLOSED = {
  isClosed: true,
  face: { closed: new Promise<CloseReason>(() => {}) },
  sendFrame: () => false,
  drained: async () => false,
  close() {},
}

/** A stream that has closed, and emits `close` in the next tick. */
export function closedStream(): CompatStream {
  return new WritableEventStream(CLOSED, '', () => {}).destroy()
}

/** The part of an event stream that is used here. */
interface Events extends Pick<Stream, 'isClosed' | 'sendFrame' | 'drained' | 'close'> {
  readonly face: { readonly closed: Promise<CloseReason> }
}

/** A Writable in front of an event stream. */
export class WritableEventStream extends Writable implements CompatStream {
  readonly #events: Events
  readonly #closeFrame: string
  #lastFrame = ''
  #hasRoom = true
  #decoder: StringDecoder | undefined
  #finished: (() => void) | undefined

  constructor(events: Events, closeFrame: string, onError: (error: Error) => void) {
    super({ objectMode: true })
    this.#events = events
    this.#closeFrame = closeFrame
    // Without a listener a bad item in a pipe would end the process.
    this.on('error', onError)
    void events.face.closed.then(reason => {
      if (reason === 'end' && this.#finished) this.#finished()
      else this.destroy()
    })
  }

  get ended(): boolean {
    return this.writableEnded || this.destroyed || this.#events.isClosed
  }

  send(...args: [data?: unknown, encoding?: unknown, callback?: Callback]): boolean {
    const [data, encoding, callback] = args
    if (args.length === 0) return false
    const done = lastFunction(encoding, callback)
    return this.ended ? refuse(done) : this.#put(frameOf(data), done)
  }

  sendEnd(data?: unknown, encoding?: unknown, callback?: Callback): boolean {
    const done = lastFunction(data, encoding, callback)
    if (this.ended) return refuse(done)
    this.#lastFrame = data && data !== done ? frameOf(data) : this.#closeFrame
    const rest = this.#decoder?.end()
    if (rest) this.#put(frameOfText(rest))
    super.end(done)
    return true
  }

  override end(data?: unknown, encoding?: unknown, callback?: Callback): this {
    this.sendEnd(data, encoding, callback)
    return this
  }

  override write(item: unknown, encoding?: unknown, callback?: Callback): boolean {
    const done = lastFunction(encoding, callback)
    if (this.ended) return refuse(done)
    try {
      const frame = item instanceof Uint8Array ? this.#frameOfBytes(item) : frameOf(item)
      return this.#put(frame, done)
    } catch (error) {
      this.destroy(error as Error)
      return refuse(done, error as Error)
    }
  }

  override _write(_frame: string, _encoding: string, callback: Callback): void {
    if (this.#hasRoom) {
      callback()
      return
    }
    void this.#events.drained().then(isOpen => {
      if (!isOpen) this.destroy()
      this.#hasRoom = isOpen
      const emitsDrain = this.writableNeedDrain
      callback(isOpen ? null : closedError())
      // Below its own mark a Writable emits no `drain`, but a caller that got false from `write` waits
      // for it.
      if (isOpen && !emitsDrain) this.emit('drain')
    })
  }

  override _final(callback: () => void): void {
    this.#finished = callback
    this.#events.close('end', { frame: this.#lastFrame })
    this.emit('message', this.#lastFrame)
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#events.close('error')
    callback(error)
  }

  #put(frame: string, done?: Callback): boolean {
    if (frame !== '') {
      // At once, because the event stream has a limit in bytes, and a Writable's own buffer has none.
      this.#hasRoom = this.#events.sendFrame(frame)
      this.emit('message', frame)
    }
    return super.write('', done) && this.#hasRoom
  }

  /** A character that was split between two chunks arrives whole. */
  #frameOfBytes(bytes: Uint8Array): string {
    this.#decoder ??= new StringDecoder('utf8')
    const text = this.#decoder.write(bytes)
    return text === '' ? '' : frameOfText(text)
  }
}

function lastFunction(...args: unknown[]): Callback | undefined {
  return args.findLast(arg => typeof arg === 'function') as Callback | undefined
}

function refuse(callback: Callback | undefined, error: Error = closedError()): false {
  if (callback) process.nextTick(callback, error)
  return false
}

function closedError(): SseError {
  return new SseError('ERR_SSE_CLOSED', 'The event stream has ended')
}

/** As in koa-sse-stream, white space before the colon and after it is dropped. */
const COMMENT = /^\s*:\s*/
const FIELDS = ['event', 'retry', 'id', 'data']

/** Not the core's encoder: 0.2.0 took any name or id, and so does this, unless it would forge lines. */
export function frameOf(item: unknown): string {
  const { event, retry, id, data } = isMessage(item) ? item : { data: item ?? '' }
  const head = line('event', event || undefined) + line('retry', retry) + line('id', id)
  if (data instanceof Uint8Array) return head + frameOfText(Buffer.from(data).toString())
  if (typeof data !== 'string' || !COMMENT.test(data)) return head + frameOfText(data)
  return head + frameOfText(data.replace(COMMENT, '')).replace(/(^|\n)data: /g, '$1: ')
}

function isMessage(item: unknown): item is Record<string, unknown> {
  if (typeof item !== 'object' || item === null || item instanceof Uint8Array) return false
  if ('data' in item || 'event' in item) return true
  // `{ id: 7, name: 'Ada' }` is a record, which 0.2.0 sent as an empty event.
  const isPlain = Object.getPrototypeOf(item) === Object.prototype
  return isPlain && Object.keys(item).every(field => FIELDS.includes(field))
}

function frameOfText(data: unknown): string {
  return encodeData(data, { serialize, maxEventBytes: 1024 * 1024 })
}

function serialize(data: unknown): string {
  // As JSON an error would be `{}`.
  if (data instanceof Error) return String(data)
  return typeof data === 'object' ? JSON.stringify(data) : String(data)
}

function line(field: string, value: unknown): string {
  if (value === undefined || value === null || value === '' || Number.isNaN(value)) return ''
  if (typeof value === 'object' || typeof value === 'function' || /[\r\n\0]/.test(String(value))) {
    throw new TypeError(
      `${field} must be a string or a number, without line breaks and NUL; got ${got(value)}`,
    )
  }
  return `${field}: ${value}\n`
}
