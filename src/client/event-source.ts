/**
 * The page's half of a stream: an EventSource that notices when the connection is dead, says what state it
 * is in, sends headers, and shares one connection with the other tabs.
 *
 * Here is what the page sees: events, their order, the status. The connection itself is in connection.ts,
 * the agreement between tabs in sharing.ts.
 */
import { Connection } from './connection.js'
import { type Arrival, END_ID, GAP, type LinkState, type News } from './news.js'
import { checkOptions, type PoolEventSourceOptions } from './options.js'
import { Position } from './position.js'
import { SharedStream } from './sharing.js'

/**
 * - `connecting`: for the first time, or again after the connection was lost just now.
 * - `live`: connected, and everything up to now has arrived.
 * - `behind`: connected, and what was missed is still arriving or being fetched by `onGap`.
 * - `offline`: an attempt has failed; others follow, after longer and longer pauses.
 * - `ended`: the server has ended the stream for good. No more attempts.
 * - `refused`: the server has answered with a status that another attempt would not change, such as 403 or
 *   404. No more attempts.
 */
export type Status = 'connecting' | 'live' | 'behind' | 'offline' | 'ended' | 'refused'

/** The client's own events. Those of the server are MessageEvents, also if they have such a name. */
interface OwnEvents {
  open: Event
  error: Event
  /** The status has changed. */
  status: StatusEvent
  /** Events are missing from the log; the same as the event `sse.gap`. */
  gap: GapEvent
  'sse.gap': MessageEvent
  'sse.cursor': MessageEvent
}

export interface StatusEvent extends Event {
  readonly status: Status
}

export interface GapEvent extends Event {
  readonly reason: string
}

/** What a listener gets: a MessageEvent with the data of that name in `Events`, or the client's own event. */
export type EventOf<Events extends object, Name> = string extends keyof Events
  ? Name extends keyof OwnEvents
    ? OwnEvents[Name]
    : MessageEvent<Events[keyof Events]>
  : Name extends keyof Events
    ? MessageEvent<Events[Name]>
    : Name extends keyof OwnEvents
      ? OwnEvents[Name]
      : never

/** Not an intersection of the map with `{ message: string }`: that would make the map's own data `never`. */
type UnnamedEventOf<Events extends object> = 'message' extends keyof Events
  ? EventOf<Events, 'message'>
  : MessageEvent<string>

type Listener<Event> = ((event: Event) => void) | { handleEvent(event: Event): void } | null

// biome-ignore lint/suspicious/noExplicitAny: as in MessageEvent, the data of an unknown event is anything
type AnyEvents = Record<string, any>

/** With the event map of a typed pool, the names and the data of events are those that the server sends. */
export interface PoolEventSource<Events extends object = AnyEvents> extends EventTarget {
  /** The absolute URL. */
  readonly url: string
  readonly withCredentials: boolean
  /** 0 while connecting, 1 while open, 2 when closed, ended or refused. */
  readonly readyState: number
  /** More than `readyState` says. After `close()` it stays what it was. */
  readonly status: Status
  /** The id of the last event or heartbeat; `''` before the first. A new page can continue from it. */
  readonly lastEventId: string
  /** The stream is open, for the first time or again. */
  onopen: ((event: Event) => void) | null
  /** An event without a name. */
  onmessage: ((event: UnnamedEventOf<Events>) => void) | null
  /** The connection was lost, or `readyState` is 2 and it has ended for good. */
  onerror: ((event: Event) => void) | null
  addEventListener<Name extends (keyof Events | keyof OwnEvents) & string>(
    type: Name,
    listener: Listener<EventOf<Events, Name>>,
    options?: boolean | AddEventListenerOptions,
  ): void
  removeEventListener<Name extends (keyof Events | keyof OwnEvents) & string>(
    type: Name,
    listener: Listener<EventOf<Events, Name>>,
    options?: boolean | EventListenerOptions,
  ): void
  /** Ends it for this page. Other tabs that share the stream keep it. */
  close(): void
}

/** Every event as text, by the names of the server's event map. */
export type TextOf<Events extends object> = { [Name in keyof Events]: string }

export interface PoolEventSourceConstructor {
  /**
   * @throws SyntaxError, as a DOMException or TypeError, if `url` is no URL; TypeError if its scheme is
   *   not http or https, or for options that do not go together.
   */
  new <Events extends object = AnyEvents>(
    url: string | URL,
    options: PoolEventSourceOptions & { json: true },
  ): PoolEventSource<Events>
  new <Events extends object = Record<string, string>>(
    url: string | URL,
    options?: PoolEventSourceOptions,
  ): PoolEventSource<TextOf<Events>>
  readonly CONNECTING: 0
  readonly OPEN: 1
  readonly CLOSED: 2
}

class Source extends EventTarget {
  static readonly CONNECTING = 0
  static readonly OPEN = 1
  static readonly CLOSED = 2

  readonly url: string
  readonly withCredentials: boolean
  status: Status = 'connecting'
  lastEventId: string
  onopen: ((event: Event) => void) | null = null
  onmessage: ((event: MessageEvent) => void) | null = null
  onerror: ((event: Event) => void) | null = null
  readonly #options: PoolEventSourceOptions
  readonly #position: Position
  readonly #connection: Connection
  /** The part that this page has in the stream: all of it, or that of one tab among others. */
  readonly #stream: Pick<SharedStream, 'join' | 'leave' | 'wake'> & { tell(news: News): unknown }
  readonly #origin: string
  readonly #pageListeners = new AbortController()
  #link: LinkState = 'connecting'
  #isClosed = false
  /** False while the page is frozen or in the page cache, too. */
  #takesPart = false
  /** What has arrived since `onGap` was called, until it settles. */
  #held: (() => void)[] | undefined

  constructor(url: string | URL, options: PoolEventSourceOptions = {}) {
    super()
    const { href, origin } = checkOptions(url, options)
    const { share, withCredentials = false, lastEventId = '' } = options
    this.url = href
    this.#origin = origin
    this.withCredentials = withCredentials
    this.lastEventId = lastEventId
    this.#options = options
    const isShared = Boolean(share && navigator.locks)
    const receive = (news: News) => this.#receive(news)
    const position = new Position(lastEventId, isShared)
    const connection = new Connection(
      { ...options, url: href, withCredentials, mayBeNative: !isShared },
      news => this.#stream.tell(news),
    )
    const name = ['koa-sse-pool', withCredentials, share, href].join(' ')
    this.#position = position
    this.#connection = connection
    this.#stream = isShared
      ? new SharedStream(name, connection, { position, receive })
      : {
          join: () => connection.open(position.cursor),
          leave: () => connection.close(),
          wake: () => connection.wake(),
          tell: receive,
        }
    for (const type of ['open', 'message', 'error'] as const) {
      this.addEventListener(type, event => this[`on${type}`]?.(event as MessageEvent))
    }
    this.#watchPage()
    this.#join()
  }

  get readyState(): number {
    return this.#isClosed ? 2 : isOpen(this.status) ? 1 : 0
  }

  override addEventListener(...args: Parameters<EventTarget['addEventListener']>): void {
    super.addEventListener(...args)
    this.#connection.listen(args[0])
  }

  close(): void {
    this.#isClosed = true
    this.#pageListeners.abort()
    this.#leave()
  }

  // Taking part

  #join(): void {
    // Each page gets a `pageshow` once it has loaded, while its first attempt may still be on its way.
    if (this.#takesPart) return
    this.#takesPart = true
    this.#stream.join()
  }

  #leave(): void {
    this.#takesPart = false
    this.#stream.leave()
  }

  #wake(): void {
    if (this.#takesPart) this.#stream.wake()
  }

  #watchPage(): void {
    const { signal } = this.#pageListeners
    const on = (target: EventTarget | undefined, type: string, run: () => void) =>
      target?.addEventListener?.(type, run, { signal })
    const leave = () => this.#leave()
    const join = () => this.#join()
    const wake = () => this.#wake()
    // A page in the cache must not hold a connection, and comes back to life with the same objects.
    on(globalThis, 'pagehide', leave)
    on(globalThis, 'pageshow', join)
    on(globalThis, 'online', wake)
    // Mobile browsers freeze hidden pages: no timer runs, and no other tab can lead while this one does.
    on(globalThis.document, 'freeze', leave)
    on(globalThis.document, 'resume', join)
    on(globalThis.document, 'visibilitychange', wake)
  }

  // What the stream says

  /** Returns true if the page has missed what comes before. */
  #receive(news: News): boolean {
    if (!this.#takesPart) return false
    if (news.kind === 'link') {
      this.#link = news.state
      this.#update()
      return false
    }
    if (news.kind === 'event') return this.#receiveEvent(news)
    const verdict = this.#position.start(news.at)
    if (!this.#held) this.lastEventId = this.#position.cursor
    // The stream goes on in another log than the one that this page's cursor is from.
    if (verdict === 'lost') {
      const data = '{"reason":"unknown"}'
      this.#deliver(() => this.#dispatch({ kind: 'event', type: GAP, data, id: news.at }))
    }
    return verdict === 'behind'
  }

  #receiveEvent(event: Arrival): boolean {
    const verdict = this.#position.take(event.type, event.id)
    if (verdict === 'new') this.#deliver(() => this.#dispatch(event))
    return verdict === 'behind'
  }

  #deliver(run: () => void): void {
    if (this.#held) this.#held.push(run)
    else run()
  }

  #dispatch({ type, data, id }: Arrival): void {
    if (this.#isClosed) return
    if (id !== undefined && id !== END_ID) this.lastEventId = id
    this.dispatchEvent(
      new MessageEvent(type, {
        data: this.#options.json ? parsed(data) : data,
        lastEventId: id ?? this.lastEventId,
        origin: this.#origin,
      }),
    )
    if (type === GAP) this.#dispatchGap(parsed(data)?.reason)
  }

  #dispatchGap(reason: string): void {
    this.#emit('gap', { reason })
    const { onGap } = this.#options
    if (!onGap) return
    this.#held = []
    this.#update()
    // An executor, so that a synchronous error of `onGap` is reported like any other: as an unhandled rejection.
    new Promise(resolve => resolve(onGap(reason))).finally(() => {
      const held = this.#held ?? []
      this.#held = undefined
      for (const run of held) this.#deliver(run)
      this.#update()
    })
  }

  #emit(type: string, members?: object): void {
    this.dispatchEvent(Object.assign(new Event(type), members))
  }

  #update(): void {
    const link = this.#link
    const isBehind = link === 'replaying' || (link === 'live' && this.#held)
    const status = isBehind ? 'behind' : (link as Status)
    if (this.#isClosed || status === this.status) return
    const isFinal = status === 'ended' || status === 'refused'
    // What has arrived before the end comes first.
    if (isFinal && this.#held) return
    const wasOpen = isOpen(this.status)
    this.status = status
    if (isFinal) this.close()
    this.#emit('status', { status })
    if (isOpen(status)) {
      if (!wasOpen) this.#emit('open')
    } else if (status !== 'connecting' || wasOpen) {
      this.#emit('error')
    }
  }
}

function isOpen(status: Status): boolean {
  return status === 'live' || status === 'behind'
}

function parsed(data: string) {
  try {
    return JSON.parse(data)
  } catch {
    return data
  }
}

export const PoolEventSource = Source as unknown as PoolEventSourceConstructor
