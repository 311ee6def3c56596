/** The server of the fake world: a log with a window, and streams that go as fast as the test lets them. */
/** A tab, as far as the server knows it. */
interface Requester {
  /** Something that will happen to it, after what was put into the same lane before. */
  later(lane: string, run: () => void): void
}

export interface Entry {
  readonly id: string
  readonly data: string
  readonly key: string | undefined
}

/** How the server answers. */
export type Mood = 'well' | 'unreachable' | 'overloaded' | 'refusing' | 'gone'

export interface Request {
  readonly tab: Requester
  readonly url: string
  readonly cursor: string
  readonly accept: string
  readonly headers: Headers
  readonly method: string | undefined
}

export class Server {
  mood: Mood = 'well'
  /** Answers in place of everything else, if it returns a response. */
  respond: (request: Request) => Response | undefined = () => undefined
  /** Requests so far, in order. */
  readonly requests: Request[] = []
  /** What was sent since the first log began. */
  readonly sent: Entry[] = []
  /** Told with each heartbeat. */
  interval = 15_000
  readonly #streams = new Set<Stream>()
  #log = 'aaaa'
  /** The entries of this log, and how many of them have left the window. */
  #entries: Entry[] = []
  #evicted = 0

  get streams(): Stream[] {
    return [...this.#streams].filter(({ isOver }) => !isOver)
  }

  get tail(): string {
    return this.#entries.at(-1)?.id ?? `0-${this.#log}`
  }

  send(data: string, key?: string): void {
    const id = `${(this.#entries.length + 1).toString(36)}-${this.#log}`
    const entry = { id, data, key }
    this.#entries.push(entry)
    this.sent.push(entry)
  }

  /** The window keeps only the newest entries. */
  evict(kept: number): void {
    this.#evicted = Math.max(this.#evicted, this.#entries.length - kept)
  }

  /** A restart with a memory log: all ids are of another log from now on. */
  restart(): void {
    for (const stream of this.streams) stream.cut()
    this.#log = `${this.#log.slice(0, 3)}${String.fromCharCode(this.#log.charCodeAt(3) + 1)}`
    this.#entries = []
    this.#evicted = 0
  }

  forget(tab: Requester): void {
    for (const stream of this.#streams) if (stream.tab === tab) this.#streams.delete(stream)
  }

  async fetch(
    tab: Requester,
    url: string,
    { headers, signal, method }: RequestInit,
  ): Promise<Response> {
    signal?.throwIfAborted()
    const given = headers as Headers
    const cursor = given.get('Last-Event-ID') ?? ''
    const accept = given.get('Accept') ?? ''
    const request = { tab, url, cursor, accept, headers: given, method }
    this.requests.push(request)
    const { mood } = this
    const lane = `request ${this.requests.length}`
    const answered = new Promise<void>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason))
      tab.later(lane, resolve)
    })
    const own = this.respond(request)
    if (own !== undefined) {
      await answered
      // As in a browser, an abort also ends a body that is still being read.
      const options = { signal: signal as AbortSignal }
      const body = own.body?.pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), options)
      return new Response(body ?? null, own)
    }
    if (mood !== 'well') {
      await answered
      if (mood === 'unreachable') throw new TypeError('Failed to fetch')
      const status = { overloaded: 503, refusing: 403, gone: 204 }[mood]
      return new Response(null, { status })
    }
    const stream = new Stream(tab, lane, signal as AbortSignal)
    this.#streams.add(stream)
    signal?.addEventListener('abort', () => this.#streams.delete(stream))
    this.#begin(stream, cursor)
    await answered
    return stream.response
  }

  /** Writes at most so many entries to a stream; returns false if it has them all. */
  write(stream: Stream, count: number): boolean {
    const rest = this.#entries.slice(stream.position)
    if (stream.position < this.#evicted) {
      this.#gap(stream, 'trimmed')
      return true
    }
    const newest = new Map(rest.map(({ key, id }) => [key, id]))
    const next = rest.slice(0, count)
    for (const { id, data, key } of next) {
      const isSuperseded = key !== undefined && newest.get(key) !== id
      if (!isSuperseded) stream.write(`data: ${data}\nid: ${id}\n\n`)
    }
    stream.position += next.length
    return next.length > 0
  }

  /** To every stream that has everything. */
  beat(): void {
    for (const stream of this.streams) {
      if (stream.position === this.#entries.length) this.#cursor(stream)
    }
  }

  #begin(stream: Stream, cursor: string): void {
    stream.write(':ok\n')
    const [number = '', log] = cursor.split('-')
    if (cursor === '') {
      stream.position = this.#entries.length
      this.#cursor(stream)
    } else if (log !== this.#log) this.#gap(stream, 'unknown')
    else {
      stream.position = Number.parseInt(number, 36)
      if (stream.position < this.#evicted) this.#gap(stream, 'trimmed')
      else if (stream.position === this.#entries.length) this.#cursor(stream)
    }
  }

  #cursor(stream: Stream): void {
    stream.write(`event: sse.cursor\ndata: ${this.interval}\nid: ${this.tail}\n\n`)
  }

  #gap(stream: Stream, reason: string): void {
    stream.position = this.#entries.length
    stream.write(`event: sse.gap\ndata: {"reason":"${reason}"}\nid: ${this.tail}\n\n`)
  }
}

/** One response. What is written happens in the tab later, in this order. */
export class Stream {
  readonly tab: Requester
  readonly response: Response
  /** How many entries of the log it has been given. */
  position = 0
  isOver = false
  readonly #lane: string
  #controller!: ReadableStreamDefaultController<Uint8Array>

  constructor(tab: Requester, lane: string, signal: AbortSignal) {
    this.tab = tab
    this.#lane = lane
    const body = new ReadableStream<Uint8Array>({
      start: controller => {
        this.#controller = controller
      },
    })
    signal.addEventListener('abort', () => this.#fail(signal.reason))
    this.response = new Response(body, { headers: { 'Content-Type': 'text/event-stream' } })
  }

  write(text: string): void {
    this.tab.later(this.#lane, () => {
      try {
        this.#controller.enqueue(new TextEncoder().encode(text))
      } catch {
        // The tab has aborted it meanwhile.
      }
    })
  }

  /** The network breaks off. What is on the way already arrives. */
  cut(): void {
    this.isOver = true
    this.tab.later(this.#lane, () => this.#fail(new TypeError('network error')))
  }

  end(): void {
    this.isOver = true
    this.tab.later(this.#lane, () => {
      try {
        this.#controller.close()
      } catch {
        // The tab has aborted it meanwhile.
      }
    })
  }

  #fail(reason: unknown): void {
    try {
      this.#controller.error(reason)
    } catch {
      // It has ended.
    }
  }
}
