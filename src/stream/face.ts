/** `ctx.sse` itself: the documented members of a stream, in front of the one that does the work. */
import { inspect } from 'node:util'
import { SseError } from '../lib/errors.js'
import type { CloseReason } from '../lib/reasons.js'
import {
  checkOneEvent,
  encodeComment,
  encodeData,
  encodeStreamEvent,
  type StreamEvent,
} from '../wire/event.js'
import type { Client, EventStream } from './event-stream.js'
import { iterate, readWhile, type StreamSource } from './source.js'
import type { Stream } from './stream.js'

/** Where errors go that nothing else hears of: the hub. */
interface ErrorListener {
  error(error: unknown): void
}

export class StreamFace implements EventStream {
  readonly id: string
  readonly client: Client
  readonly lastEventId: string
  readonly #stream: Stream
  readonly #pool: ErrorListener
  #state: Record<PropertyKey, unknown> | undefined
  #controller: AbortController | undefined
  #closed: Promise<CloseReason> | undefined
  /** Stops the sources that are being read. */
  #sources: Set<() => void> | undefined

  constructor(stream: Stream, client: Client, pool: ErrorListener) {
    this.id = stream.id
    this.client = client
    this.lastEventId = stream.lastEventId
    this.#stream = stream
    this.#pool = pool
  }

  get state(): Record<PropertyKey, unknown> {
    this.#state ??= {}
    return this.#state
  }

  set state(state: Record<PropertyKey, unknown>) {
    this.#state = state
  }

  get isOpen(): boolean {
    return this.#stream.isOpen
  }

  get channels(): readonly string[] {
    return this.#stream.channels
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController()
      this.#controller = controller
      this.#stream.onceClosed(reason => controller.abort(abortError(reason)))
    }
    return this.#controller.signal
  }

  get closed(): Promise<CloseReason> {
    this.#closed ??= new Promise(resolve => this.#stream.onceClosed(resolve))
    return this.#closed
  }

  get bufferedBytes(): number {
    return this.#stream.bufferedBytes
  }

  send(event: StreamEvent, ...rest: unknown[]): boolean {
    checkOneEvent('ctx.sse.send()', event, rest)
    if (this.#stream.isEnding) return false
    const frame = encodeStreamEvent(event, this.#stream.encoding)
    if (typeof event === 'object' && event.id !== undefined) this.#stream.hideCursor()
    return this.#stream.sendFrame(frame)
  }

  comment(text = ''): boolean {
    return !this.#stream.isEnding && this.#stream.sendFrame(encodeComment(text))
  }

  stream<Item>(source: StreamSource<Item>, map?: (item: Item) => StreamEvent): Promise<void> {
    const sent = this.#send(source, map)
    return Awaited.orElse(sent, error => {
      this.#pool.error(error)
      this.#stream.close('error')
    })
  }

  async #send<Item>(source: StreamSource<Item>, map?: (item: Item) => StreamEvent): Promise<void> {
    const items = iterate(source)
    if (this.#stream.isEnding) return items.stop()
    // The source may be quiet for long, and the client should know before that it is connected.
    this.#stream.openSoon()
    await readWhile(this.#runningSources(), items, async item => {
      const event = map ? map(item as Item) : (item as StreamEvent)
      return this.send(event) || this.drained()
    })
  }

  drained(): Promise<boolean> {
    return this.#stream.drained()
  }

  join(...channels: string[]): this {
    this.#stream.joinChannels(channels)
    return this
  }

  leave(...channels: string[]): this {
    this.#stream.leaveChannels(channels)
    return this
  }

  end(data?: unknown): void {
    if (this.#stream.isEnding) return
    this.#stream.close('end', { data: encodeData(data, this.#stream.encoding) })
  }

  rotate(): void {
    if (!this.#stream.isEnding) this.#stream.close('rotated')
  }

  /** What a logger shows, without the pool behind it, which has other clients' entries. */
  toJSON(): object {
    const { id, lastEventId, isOpen, channels } = this
    return {
      id,
      isOpen,
      channels,
      lastEventId,
      ...(isSerializable(this.#state) && { state: this.#state }),
    }
  }

  [inspect.custom](_depth: number, options: object): string {
    const { id, lastEventId, isOpen, channels } = this
    const shown = { id, isOpen, channels, lastEventId, state: this.#state ?? {} }
    return `EventStream ${inspect(shown, options)}`
  }

  #runningSources(): Set<() => void> {
    if (this.#sources === undefined) {
      const sources = new Set<() => void>()
      this.#sources = sources
      this.#stream.onceClosed(() => {
        for (const stop of sources) stop()
      })
    }
    return this.#sources
  }
}

/** A promise that knows whether anything waits for it. */
class Awaited<Value> extends Promise<Value> {
  #isAwaited = false

  /** Calls the listener if the promise is rejected and nothing waits for it then. */
  static orElse<Value>(
    promise: Promise<Value>,
    onUnheard: (error: unknown) => void,
  ): Promise<Value> {
    const watched = new Awaited<Value>((resolve, reject) => promise.then(resolve, reject))
    // Not by its own `then`, which is the app's. Marks the rejection as handled, so that it cannot end the
    // process.
    Promise.prototype.then.call(watched, undefined, error => {
      // Not before `await` has called `then`.
      setImmediate(() => {
        if (!watched.#isAwaited) onUnheard(error)
      })
    })
    return watched
  }

  /** What `then` returns is an ordinary promise: its rejection is the app's own. */
  static override get [Symbol.species]() {
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: `await` calls it, and only a call of it tells
  override then<Result = Value, Failure = never>(
    onResolve?: ((value: Value) => Result | PromiseLike<Result>) | null,
    onReject?: ((error: unknown) => Failure | PromiseLike<Failure>) | null,
  ): Promise<Result | Failure> {
    this.#isAwaited = true
    return super.then(onResolve, onReject)
  }
}

/** `fetch` rejects with it, and code that is stopped by a signal knows an abort by this name. */
function abortError(reason: CloseReason): SseError {
  const error = new SseError('ERR_SSE_CLOSED', `The event stream has closed: ${reason}`, { reason })
  return Object.defineProperty(error, 'name', { value: 'AbortError' })
}

/** An app may keep anything in `state`, and logging a stream must never throw. */
function isSerializable(state: unknown): boolean {
  try {
    return state !== undefined && JSON.stringify(state) !== undefined
  } catch {
    return false
  }
}
