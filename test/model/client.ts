/** A client that keeps its cursor as browsers do: an id takes effect at the blank line of its event. */
import http from 'node:http'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { Received, Stay, Visit } from './judge.js'
import type { Place } from './sites.js'

export class ModelClient {
  readonly name: string
  readonly channels: readonly string[]
  readonly visits: Visit[] = []
  lastEventId = ''
  isBlocked = false
  /** The place it is connected to. */
  place: Place | undefined
  readonly #tick: () => number
  #request: http.ClientRequest | undefined
  #response: http.IncomingMessage | undefined
  readonly #waiting = new Set<() => void>()

  constructor(name: string, channels: readonly string[], tick: () => number) {
    this.name = name
    this.channels = channels
    this.#tick = tick
  }

  /** The connection that is open, or the last one. */
  get visit(): Visit | undefined {
    return this.visits.at(-1)
  }

  /** Whether the close event has come, after which a browser never connects again. */
  get isOver(): boolean {
    return this.lastEventId === 'sse.end'
  }

  get isConnected(): boolean {
    return this.place !== undefined
  }

  /** Resolves once the response has begun. */
  async connect(place: Place): Promise<number> {
    this.cut()
    const query = new URLSearchParams({ id: this.name, channels: this.channels.join(',') })
    const cursor = this.lastEventId === '' ? undefined : this.lastEventId
    const request = http.request({
      ...{ socketPath: place.path, path: `/?${query}`, agent: false },
      headers: { Connection: 'keep-alive', ...(cursor && { 'Last-Event-ID': cursor }) },
    })
    this.#request = request
    const requestedAt = this.#tick()
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      request.on('response', resolve)
      request.on('error', reject)
      request.end()
    })
    if (response.statusCode !== 200) {
      response.destroy()
      return response.statusCode as number
    }
    const connected = [requestedAt, this.#tick()] as const
    const since = cursor === undefined ? connected : undefined
    const targets = ['*', ...this.channels.map(name => `#${name}`), `@${this.name}`]
    const stays: Stay[] = targets.map(target => ({ target, since, leftAt: undefined }))
    const { name: client } = this
    const visit: Visit = {
      ...{
        client,
        pool: place.index,
        connected,
        cursor,
        stays,
        got: [],
        wasBlocked: false,
        endedAt: undefined,
      },
    }
    this.visits.push(visit)
    this.place = place
    this.#response = response
    this.isBlocked = false
    this.#read(response, visit)
    return 200
  }

  cut(): void {
    this.#request?.destroy()
    this.#request = this.#response = this.place = undefined
    for (const check of this.#waiting) check()
  }

  block(): void {
    this.isBlocked = true
    if (this.visit !== undefined) this.visit.wasBlocked = true
    this.#response?.pause()
  }

  unblock(): void {
    this.isBlocked = false
    this.#response?.resume()
  }

  /** Resolves as soon as the condition holds; it is checked whenever something arrives. */
  until(condition: () => boolean): Promise<void> {
    return new Promise(resolve => {
      const check = () => {
        if (!condition()) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
      check()
    })
  }

  #read(response: http.IncomingMessage, { got }: Visit): void {
    const parser = createParser({
      onEvent: event => {
        if (event.id !== undefined) this.lastEventId = event.id
        const received = receivedOf(event)
        if (received !== undefined) got.push(received)
      },
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      if (this.#response !== response) return
      parser.feed(text)
      for (const check of this.#waiting) check()
    })
    response.on('error', () => {})
    response.on('close', () => {
      if (this.#response === response) this.cut()
    })
  }
}

function receivedOf({ event, data, id = '' }: EventSourceMessage): Received | undefined {
  // Without an id it is only a sign of life.
  if (event === 'sse.cursor') return id === '' ? undefined : { kind: 'cursor', id }
  if (event === 'sse.gap') return { kind: 'gap', reason: JSON.parse(data).reason, id }
  if (event === 'close') return { kind: 'close', data }
  return { kind: 'entry', n: Number.parseInt(data, 10), id }
}
