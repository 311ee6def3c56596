/** What an app holds: `ctx.sse`, and the client that it belongs to. */
import type { CloseReason } from '../lib/reasons.js'
import type { EventMap, PoolEvent, StreamEvent } from '../wire/event.js'
import type { StreamSource } from './source.js'

/**
 * One open response of type `text/event-stream`: `ctx.sse`. See
 * [Server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html) in WHATWG HTML.
 *
 * It is an interface, so a handler can be tested with an object of your own.
 */
export interface EventStream<Events extends object = EventMap> {
  /** The client's id. */
  readonly id: string
  /** The client: `pool.get(id)`, with all streams of this id on this process. */
  readonly client: Client<Events>
  /**
   * The cursor that the client sent: the `Last-Event-ID` header, else the query parameter
   * `lastEventId`, else `''`. Clients can send anything there: do not trust it. Of a longer one, 256
   * characters are kept, unless the route has `resume: false` and so ids of its own.
   */
  readonly lastEventId: string
  /** Anything the app wants to keep about this stream. Default: an empty object. */
  state: Record<PropertyKey, unknown>
  /**
   * True from the response's first byte until it closes; false while the handler runs before its first
   * send has gone out.
   */
  readonly isOpen: boolean
  /** The channels that it has joined, by the route's `channels` option or by {@link join}. */
  readonly channels: readonly string[]
  /**
   * Aborts when the stream closes. Pass it on, as in `fetch(url, { signal: ctx.sse.signal })`, to stop
   * work for a client that has left. Its reason is an {@link SseError} `ERR_SSE_CLOSED` that carries the
   * close reason and has the name `AbortError`. A handler that fails with it is not reported.
   */
  readonly signal: AbortSignal
  /**
   * Resolves to the reason when the stream has closed; never rejects. A handler that waits for it must
   * first open the stream by sending something, such as `ctx.sse.comment()`.
   */
  readonly closed: Promise<CloseReason>
  /** Bytes that wait in this process, in direct sends and in the socket; the kernel may hold more. */
  readonly bufferedBytes: number

  /**
   * Sends an event to this stream only. It is not in the log and is not replayed. It arrives after
   * everything that was sent through the pool before.
   *
   * Returns true to continue, and false when the client is slow (await {@link drained}) or has left: its
   * socket is full, or 64 KiB of direct sends wait. When more than `maxBufferedBytes` wait, the stream
   * closes as `slow`. Never throws because a client left.
   *
   * @throws TypeError that names the field when the event is wrong, and for a second argument, as in
   * `send('update', data)`; nothing is written then.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * ctx.sse.send('text')
   * ctx.sse.send({ event: 'update', data: { count: 42 } })
   */
  send<Name extends keyof Events & string>(
    event: StreamEvent<Events> | StreamEvent<Events, Name>,
  ): boolean

  /**
   * Sends a comment, which browsers ignore; each line of the text becomes one. Returns what {@link send}
   * returns. To open the response before there is an event to send, call it without arguments.
   *
   * @param text default: an empty comment.
   * @throws TypeError when the text is not a string.
   */
  comment(text?: string): boolean

  /**
   * Sends each item of a source: an iterable, an async iterable, a Node stream or a web stream. Reads no
   * faster than the client does, and stops the source when the client leaves. The stream stays open
   * afterwards. Bytes are decoded as UTF-8.
   *
   * Resolves when the source has ended or the stream has closed. Rejects with a TypeError when the source
   * is none of these, with the source's own error, and with what `map` or {@link send} throws. If nothing
   * awaits the promise then, the pool emits the error as `error` and the stream is cut.
   *
   * @param map turns an item into an event. Default: each item is an event itself.
   * @example
   * await ctx.sse.stream(answer.textStream, token => ({ event: 'token', data: token }))
   */
  stream<Item>(source: StreamSource<Item>, map?: (item: Item) => StreamEvent<Events>): Promise<void>

  /**
   * Resolves to true as soon as {@link send} would return true, and to false when the stream ends.
   *
   * @example
   * if (!ctx.sse.send(row) && !(await ctx.sse.drained())) break
   */
  drained(): Promise<boolean>

  /**
   * Joins channels, starting with the next event of each. Events that the client missed in a channel
   * while it was away are replayed only if the route's `channels` option names the channel.
   *
   * @throws TypeError for a name that is not a string of 1 to 256 characters, has control or invisible
   * characters or begins with `sse.`; no channel is joined then.
   */
  join(...channels: string[]): this

  /**
   * Leaves channels; those that it has not joined are ignored.
   *
   * @throws TypeError like {@link join}.
   */
  leave(...channels: string[]): this

  /**
   * Sends the close event, then ends. The browser reconnects once more and gets a 204, which stops it for
   * good ([WHATWG HTML](https://html.spec.whatwg.org/multipage/server-sent-events.html), 9.2.1), without
   * code on the page. A second call does nothing.
   *
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the data cannot be serialized.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   */
  end(data?: unknown): void

  /**
   * Ends the stream as `rotated`, without a close event: the browser reconnects after its `retry` delay,
   * is identified again and resumes without a loss. For a client that should get other channels or rights, or move to
   * another process. What was sent before arrives first. A second call does
   * nothing.
   *
   * @example
   * for (const stream of pool.get('ada')?.streams ?? []) stream.rotate() // her teams have changed
   */
  rotate(): void
}

/** A connected client: an id with its open streams on this process, such as a user's tabs. */
export interface Client<Events extends object = EventMap> {
  /** The id that the route's `id` or `identify` gave it. */
  readonly id: string
  /** Its open streams on this process now, oldest first; never empty while it is in the pool. */
  readonly streams: ReadonlySet<EventStream<Events>>

  /** The same as `pool.send(client.id, event)`. */
  send<Name extends keyof Events & string>(
    event: PoolEvent<Events> | PoolEvent<Events, Name>,
  ): Promise<string>

  /** The same as `pool.remove(client.id, data)`. */
  remove(data?: unknown): Promise<string>
}
