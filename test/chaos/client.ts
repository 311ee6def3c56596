/** A real HTTP client that reconnects to any process with the last id that it has seen. */
import http from 'node:http'
import { createParser } from 'eventsource-parser'
import type { Ledger } from './ledger.js'
import type { Payload } from './messages.js'
import type { Random } from './random.js'

export interface ClientOptions {
  readonly ledger: Ledger
  readonly random: Random
  /** The port of any process. */
  readonly pickPort: () => number
  readonly figures: ClientFigures
  /** Called after each event. */
  readonly onTold: () => void
}

export interface ClientFigures {
  deliveries: number
  reconnects: number
  gaps: Record<string, number>
}

export class ChaosClient {
  readonly ledger: Ledger
  readonly #options: ClientOptions
  #lastEventId = ''
  #request: http.ClientRequest | undefined
  #response: http.IncomingMessage | undefined
  #cutsInMidEvent = false
  #isAway = false
  #isOver = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: ClientOptions) {
    this.ledger = options.ledger
    this.#options = options
  }

  connect(): void {
    this.#isAway = false
    if (this.#isOver || this.#request !== undefined) return
    clearTimeout(this.#timer)
    const port = this.#options.pickPort()
    const { name, channels } = this.ledger
    const query = new URLSearchParams({ id: name, channels: [...channels].join(',') })
    const request = http.get({
      ...{ host: '127.0.0.1', port, path: `/?${query}`, agent: false },
      headers: this.#lastEventId === '' ? {} : { 'Last-Event-ID': this.#lastEventId },
    })
    this.#request = request
    this.ledger.note(`connects to ${port} with ${this.#lastEventId || 'nothing'}`)
    request.on('response', response => this.#read(response))
    request.on('error', () => {})
    request.on('close', () => this.#return(request))
  }

  /** Disconnects at once, and reconnects soon unless it is away. */
  cut({ inMidEvent = false } = {}): void {
    if (inMidEvent) this.#cutsInMidEvent = true
    else this.#request?.destroy()
  }

  leave(): void {
    this.#isAway = true
    this.cut()
  }

  stopReading(): void {
    this.#response?.pause()
  }

  resumeReading(): void {
    this.#response?.resume()
  }

  close(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.cut()
  }

  #return(request: http.ClientRequest): void {
    if (this.#request !== request) return
    this.#request = this.#response = undefined
    if (this.#isOver || this.#isAway) return
    this.#options.figures.reconnects += 1
    // Mostly at once, like a browser with a short `retry`.
    const { random } = this.#options
    const delay = random.chance(0.8) ? random.whole(0, 50) : random.whole(50, 1000)
    this.#timer = setTimeout(() => this.connect(), delay)
  }

  #read(response: http.IncomingMessage): void {
    response.on('error', () => {})
    // A process that is closing refuses it: another one is tried.
    if (response.statusCode !== 200) {
      response.resume()
      return
    }
    this.#response = response
    this.#cutsInMidEvent = false
    let isCut = false
    const parser = createParser({
      onEvent: ({ event, id, data }) => {
        if (id !== undefined) this.#lastEventId = id
        this.#account(event, id, data)
      },
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      if (isCut) return
      isCut = this.#cutsInMidEvent
      const end = isCut ? this.#options.random.whole(1, text.length) : text.length
      parser.feed(text.slice(0, end))
      if (isCut) this.cut()
    })
  }

  #account(event: string | undefined, id: string | undefined, data: string): void {
    const { figures, onTold } = this.#options
    if (event === 'sse.gap') {
      const { reason } = JSON.parse(data) as { reason: string }
      figures.gaps[reason] = (figures.gaps[reason] ?? 0) + 1
      this.ledger.gap(reason, id)
    } else if (event === 'sse.cursor') {
      if (id !== undefined) this.ledger.cursor(id)
    } else {
      figures.deliveries += 1
      this.ledger.message(String(id), JSON.parse(data) as Payload)
    }
    onTold()
  }
}
