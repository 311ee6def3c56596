/** What an app holds: `ctx.sse`, and the client that it belongs to. */
import type { CloseReason } from '../lib/reasons.js'
import type { EventMap, PoolEvent, StreamEvent } from '../wire/event.js'
import type { StreamSource } from './source.js'

/**
 * One open response of type `text/event-stream`: `ctx.sse`.
 *
 * It is an interface, so a handler can be tested with an object of your own.
 */
export interface EventStream<Events extends object = EventMap> {
  /** The client's id. */
  readonly id: string
  /** The client: `pool.get(id)`, with all streams of this id on this process. */
  readonly client: Client<Events>
  /**
   * The cursor that the browser brought: the `Last-Event-ID` header, else the query parameter
   * `lastEventId`, else `''`. Anybody can write anything there: do not trust it.
   */
  readonly lastEventId: string
  /** Whatever the app wants to remember about this stream. Default: an empty object. */
  state: Record<PropertyKey, unknown>
  /** Whether the response has been opened and has not closed yet. */
  readonly isOpen: boolean
  /** The channels that it has joined, by the route's `channels` option or by {@link join}. */
  readonly channels: readonly string[]
  /**
   * Aborts when the stream closes. Pass it to `fetch` or a database, so that work for a client that
   * has left stops. Its reason is an {@link SseError} `ERR_SSE_CLOSED` that carries the close reason.
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
   * Returns true to go on, and false when the client is slow (await {@link drained}) or has left. When
   * more than `maxBufferedBytes` wait, the stream is closed as `slow`. Never throws because a client
   * left.
   *
   * @throws TypeError that names the field when the event is wrong; nothing is written then.
   * @throws SseError `ERR_SSE_EVENT_TOO_LARGE` over `maxEventBytes`.
   * @example
   * ctx.sse.send('text')
   * ctx.sse.send({ event: 'update', data: { count: 42 } })
   */
  send(event: StreamEvent<Events>): boolean

  /**
   * Sends a comment, which browsers ignore; each line of the text becomes one. Default: an empty one.
   * Returns what {@link send} returns.
   *
   * @throws TypeError when the text is not a string.
   */
  comment(text?: string): boolean

  /**
   * Sends each item of a source: an iterable, an async iterable, a Node stream or a web stream. Reads no
   * faster than the client does, and stops the source when the client leaves. The stream stays open
   * afterwards. Bytes are decoded as UTF-8.
   *
   * Resolves when the source has ended or the stream has closed. Rejects with the source's own error,
   * and with what {@link send} throws.
   *
   * @param map makes an event of an item; without it each item must be an event itself.
   * @throws TypeError when the source is none of these.
   * @example
   * await ctx.sse.stream(answer.textStream, token => ({ event: 'token', data: token }))
   */
  stream<Item>(source: StreamSource<Item>, map?: (item: Item) => StreamEvent<Events>): Promise<void>

  /** Resolves to true as soon as {@link send} would return true, and to false when the stream closes. */
  drained(): Promise<boolean>

  /**
   * Joins channels, each from its tail on. Entries that the client missed in a channel while it was
   * away are replayed only if the route's `channels` option names the channel.
   *
   * @throws TypeError for an empty name, or one with control or invisible characters.
   */
  join(...channels: string[]): this

  /**
   * Leaves channels; those that it has not joined are ignored.
   *
   * @throws TypeError as {@link join} does.
   */
  leave(...channels: string[]): this

  /**
   * Sends the close event, then ends. The browser reconnects once more and is answered 204, which stops
   * it for good (WHATWG HTML, 9.2), without code on the page. A second call does nothing.
   *
   * @param data the data of the close event; empty by default.
   * @throws TypeError when the data cannot be serialized.
   */
  end(data?: unknown): void
}

/** A connected client: an id with its open streams on this process, such as a user's tabs. */
export interface Client<Events extends object = EventMap> {
  readonly id: string
  /** Its open streams on this process now, oldest first; never empty while it is in the pool. */
  readonly streams: ReadonlySet<EventStream<Events>>

  /** As `pool.send(client.id, event)`. */
  send(event: PoolEvent<Events>): Promise<string>

  /** As `pool.remove(client.id, data)`. */
  remove(data?: unknown): Promise<string>
}
