/**
 * One stream: connects, notices when it is dead, and connects again, over whichever transport works. It
 * knows nothing of tabs, and passes on what it receives as {@link News}.
 *
 * The transports, in the order in which they are tried:
 *
 * - `native`: the browser's EventSource, if the request needs nothing that EventSource cannot do. It does
 *   not show why it was refused, so the next attempt after a refusal is made by `fetch`.
 * - `fetch`: sees the status, comments and events of all names.
 * - `poll`: long polling, where something on the way holds the bytes of a stream back.
 */
import { createParser } from 'eventsource-parser'
import { END_ID, GAP, HEARTBEAT, type LinkState, type News } from './news.js'

/** A server that lets a stream through sends its first bytes at once, so this is long enough for any link. */
const FIRST_BYTE_MS = 5000
/** How many heartbeats may fail to arrive. The half is for the delay of the one that is due. */
const SILENT_HEARTBEATS = 2.5
/** From the answer to a poll to the next one; the server answers after 25 seconds at the latest. */
const POLL_INTERVAL_MS = 25_000
const BASE_DELAY_MS = 1000
const MAX_DELAY_MS = 30_000

export interface ConnectionOptions {
  readonly url: string
  readonly withCredentials: boolean
  readonly headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined
  readonly method?: string | undefined
  readonly body?: BodyInit | undefined
  readonly pingInterval?: number | undefined
  /** False if all events are needed, whatever their names: EventSource shows only those it knows. */
  readonly mayBeNative: boolean
}

/** What the server answers to a poll; see `PollAnswer` in src/koa/long-poll.ts. */
interface PollAnswer {
  readonly cursor: string
  readonly events: readonly { event: string; data: string; id?: string }[]
}

/** What comes after an attempt: another one in so many milliseconds, or none, for the reason given. */
type Outcome = number | 'ended' | 'refused'

export class Connection {
  /** The id after which the stream continues; `''` if none is known. */
  at = ''
  state: LinkState = 'connecting'
  readonly #options: ConnectionOptions
  readonly #tell: (news: News) => void
  /** EventSource hides events of other names. Without `close`, an end would look like a refusal. */
  readonly #names = new Set([GAP, HEARTBEAT, 'close'])
  #transport: 'native' | 'fetch' | 'poll'
  #source: EventSource | undefined
  #attempt: AbortController | undefined
  /** Ends the pause between two attempts. */
  #resume: (() => void) | undefined
  #failures = 0
  /** What the server last asked clients to wait before they reconnect. */
  #retry: number | undefined
  #interval: number
  #heardAt = 0
  #hasBytes = false
  #watch: ReturnType<typeof setTimeout> | undefined
  #mayPoll = true
  /** It has sent a cursor, so it will send one too when a replay is complete. */
  #sendsCursors = false
  #hasAskedAgain = false

  constructor(options: ConnectionOptions, tell: (news: News) => void) {
    this.#options = options
    this.#tell = tell
    this.#interval = options.pingInterval ?? 0
    const { headers, method, body, mayBeNative } = options
    const isPlain = !headers && !method && !body && mayBeNative
    this.#transport = isPlain && globalThis.EventSource ? 'native' : 'fetch'
  }

  /** Connects, or connects again, to continue after this id. */
  open(at: string): void {
    this.close()
    this.at = at
    void this.#run()
  }

  close(): void {
    const attempt = this.#attempt
    this.#attempt = undefined
    attempt?.abort()
    this.#resume?.()
  }

  /** Call when timers may have stood still, or the network may be back. */
  wake(): void {
    if (this.#resume) this.#resume()
    else if (this.#source?.readyState === 0) this.#retryIn(0)
    else if (this.#attempt) this.#checkSilence()
  }

  /** From now on events of this name are wanted. */
  listen(name: string): void {
    if (this.#names.has(name)) return
    this.#names.add(name)
    this.#source?.addEventListener(name, this.#onNative)
  }

  async #run(): Promise<void> {
    for (;;) {
      const attempt = new AbortController()
      this.#attempt = attempt
      // While polling, the next question belongs to the same connection.
      const isPolling = this.#transport === 'poll' && this.state === 'live'
      if (this.state !== 'offline' && !isPolling) this.#report('connecting')
      const outcome = await this.#outcome(attempt.signal)
      clearTimeout(this.#watch)
      // Another run has begun, or none is wanted.
      if (this.#attempt !== attempt) return
      if (typeof outcome === 'string') {
        this.#attempt = undefined
        this.#report(outcome)
        return
      }
      // Another attempt at once, as with a new token, is part of this one.
      if (outcome > 0) this.#report(this.#hasBytes ? 'connecting' : 'offline')
      await this.#pause(outcome)
      if (this.#attempt !== attempt) return
    }
  }

  async #outcome(signal: AbortSignal): Promise<Outcome> {
    this.#hasBytes = false
    this.#heard()
    this.#checkSilence()
    try {
      return await (this.#transport === 'native'
        ? this.#listenNatively(signal)
        : this.#fetch(signal))
    } catch {
      // Some browsers reject with an error of their own instead of the reason.
      return signal.aborted ? signal.reason : this.#failed()
    }
  }

  /** The network has failed, or the server for a reason that may pass. */
  #failed(): number {
    if (this.#transport === 'poll') this.#transport = 'fetch'
    // A stream that stood for a while and broke does not mean that the server is down.
    if (this.#hasBytes) this.#failures = 0
    const delay = (this.#retry ?? BASE_DELAY_MS) * 2 ** this.#failures++
    // Full jitter: clients that were cut off together must not come back together.
    return Math.random() * Math.min(MAX_DELAY_MS, delay)
  }

  async #pause(milliseconds: number): Promise<void> {
    await new Promise<void>(resolve => {
      this.#resume = resolve
      setTimeout(resolve, milliseconds)
    })
    this.#resume = undefined
  }

  // Transports

  #listenNatively(signal: AbortSignal): Promise<Outcome> {
    const { url, withCredentials } = this.#options
    return new Promise((resolve, reject) => {
      const source = new EventSource(this.#urlFrom(url), { withCredentials })
      this.#source = source
      let hasFailed = false
      signal.onabort = () => {
        source.close()
        this.#source = undefined
        reject()
      }
      source.onopen = () => {
        hasFailed = false
        this.#opened()
      }
      source.onerror = () => {
        if (source.readyState === 2) {
          // Why it was refused only `fetch` can see.
          this.#transport = 'fetch'
          resolve(0)
        } else if (hasFailed) {
          this.#retryIn(this.#failed())
        } else {
          // The browser comes back by itself after the time that the server has asked for, which only the
          // browser knows. It does not wait longer each time, so that is left to it only once.
          hasFailed = true
          this.#report('connecting')
        }
      }
      for (const name of this.#names) source.addEventListener(name, this.#onNative)
    })
  }

  readonly #onNative = ({ type, data, lastEventId }: MessageEvent) => {
    // The source's own `open` or `error`, not an event of the server with such a name.
    if (data === undefined) return
    // An event without an id has that of the event before.
    const isNew = lastEventId !== this.at && lastEventId !== ''
    this.#take(type, data, isNew ? lastEventId : undefined)
  }

  async #fetch(signal: AbortSignal): Promise<Outcome> {
    const isPoll = this.#transport === 'poll'
    const response = await this.#ask(isPoll, signal)
    const { status, body } = response
    if (!response.ok || !body) {
      // Unread, the answer would hold the connection.
      body?.cancel().catch(() => {})
      return this.#refused(status, response.headers.get('Retry-After') ?? '')
    }
    this.#hasAskedAgain = false
    const type = response.headers.get('Content-Type') ?? ''
    if (isPoll && type.startsWith('application/json'))
      return this.#takeAnswer(await response.json())
    // The server cannot poll, so the stream is all there is, however late its first byte comes.
    if (isPoll) this.#stopPolling()
    if (!type.startsWith('text/event-stream')) return 'refused'
    const decoder = new TextDecoder()
    const parser = createParser({
      onEvent: ({ event = 'message', data, id }) => {
        if (!signal.aborted) this.#take(event, data, id)
      },
      onRetry: milliseconds => {
        this.#retry = milliseconds
      },
    })
    const reader = body.getReader()
    do {
      const { done, value } = await reader.read()
      // A body that was complete before the abort ends as if nothing had happened.
      if (signal.aborted) break
      // The server spreads the clients that it sends away itself, by `retry`.
      if (done) return (this.#hasBytes && this.#retry) || this.#failed()
      if (!this.#hasBytes) this.#opened()
      this.#heard()
      parser.feed(decoder.decode(value, { stream: true }))
      // In Node a read that begins after the abort may never end.
    } while (!signal.aborted)
    return signal.reason
  }

  async #ask(isPoll: boolean, signal: AbortSignal): Promise<Response> {
    const { url, withCredentials, headers, method, body } = this.#options
    const given = new Headers(await (typeof headers === 'function' ? headers() : headers))
    given.set('Accept', isPoll ? 'application/json' : 'text/event-stream')
    const isSameOrigin = url.startsWith(`${globalThis.location?.origin}/`)
    // To another origin the header would need a preflight that allows it.
    if (isSameOrigin && this.at) given.set('Last-Event-ID', this.at)
    return fetch(isSameOrigin ? url : this.#urlFrom(url), {
      headers: given,
      credentials: withCredentials ? 'include' : 'same-origin',
      cache: 'no-store',
      signal,
      method: method ?? (body ? 'POST' : 'GET'),
      body: body ?? null,
    })
  }

  #refused(status: number, retryAfter: string): Outcome {
    if (status === 204) return 'ended'
    if (status === 406 && this.#transport === 'poll') {
      this.#stopPolling()
      return 0
    }
    if ((status === 401 || status === 403) && !this.#hasAskedAgain) {
      this.#hasAskedAgain = true
      if (typeof this.#options.headers === 'function') return 0
    }
    if (status < 500 && status !== 429 && status !== 408) return 'refused'
    const delay = this.#failed()
    const seconds = Number(retryAfter) || (Date.parse(retryAfter) - Date.now()) / 1000
    return seconds > 0 ? seconds * 1000 + Math.random() * BASE_DELAY_MS : delay
  }

  #takeAnswer({ cursor, events }: PollAnswer): Outcome {
    const isNews = cursor !== this.at
    this.#opened()
    for (const { event, data, id } of events) this.#take(event, data, id)
    if (cursor === END_ID) return 'ended'
    this.#take(HEARTBEAT, '', cursor)
    return isNews ? 0 : this.#failed()
  }

  #stopPolling(): void {
    this.#mayPoll = false
    this.#transport = 'fetch'
  }

  #urlFrom(url: string): string {
    if (!this.at) return url
    const from = new URL(url)
    from.searchParams.set('lastEventId', this.at)
    return from.href
  }

  // What arrives, and what does not

  #opened(): void {
    this.#hasBytes = true
    this.#heard()
    this.#checkSilence()
    this.#report(this.at && this.#sendsCursors ? 'replaying' : 'live')
  }

  #take(type: string, data: string, id: string | undefined): void {
    this.#heard()
    if (id && id !== END_ID) this.at = id
    if (type === HEARTBEAT) {
      this.#sendsCursors = true
      if (!this.#interval && Number(data) > 0) {
        this.#interval = Number(data)
        this.#checkSilence()
      }
    }
    this.#tell({ kind: 'event', type, data, id })
    if (type === HEARTBEAT || type === GAP) this.#report('live')
    if (id === END_ID) this.#attempt?.abort('ended')
  }

  #report(state: LinkState): void {
    if (state === this.state) return
    this.state = state
    this.#tell({ kind: 'link', state })
  }

  #heard(): void {
    this.#heardAt = performance.now()
  }

  /** The longest silence, in milliseconds, that says nothing; 0 if silence never says anything. */
  get #patience(): number {
    if (this.#transport === 'poll') return SILENT_HEARTBEATS * POLL_INTERVAL_MS
    if (!this.#hasBytes) return this.#mayPoll ? FIRST_BYTE_MS : 0
    return SILENT_HEARTBEATS * this.#interval
  }

  /** Gives up the attempt if it has been silent for too long, else looks again when it would have been. */
  #checkSilence(): void {
    clearTimeout(this.#watch)
    const silence = performance.now() - this.#heardAt
    const patience = this.#patience
    // The first heartbeat says how often they come.
    if (patience === 0) return
    if (silence < patience) {
      this.#watch = setTimeout(() => this.#checkSilence(), patience - silence + 1)
    } else {
      // EventSource hides bytes that are no event of a known name: `fetch` sees whether there are any.
      this.#transport = this.#transport === 'fetch' && !this.#hasBytes ? 'poll' : 'fetch'
      this.#retryIn(0)
    }
  }

  #retryIn(milliseconds: number): void {
    this.#attempt?.abort(milliseconds)
  }
}
