/** A page with an EventSource, which reconnects by itself. */
import { EventSource } from 'eventsource'
import { onTestFinished } from 'vitest'

export class Page {
  readonly data: string[] = []
  /** How often a response was accepted as an event stream. */
  opened = 0
  gaps = 0
  /** The encoding of the newest response. */
  encoding: string | null = null
  readonly #source: EventSource
  readonly #waiting = new Set<() => void>()

  constructor(url: string) {
    this.#source = new EventSource(url, {
      fetch: async (...request) => {
        const response = await fetch(...request)
        this.encoding = response.headers.get('Content-Encoding')
        return response
      },
    })
    this.#on('message', ({ data }) => this.data.push(data))
    this.#on('sse.gap', () => this.gaps++)
    this.#on('open', () => this.opened++)
    this.#on('error', () => {})
    onTestFinished(() => this.#source.close())
  }

  /** Whether the EventSource has given up. */
  get hasStopped(): boolean {
    return this.#source.readyState === EventSource.CLOSED
  }

  /** Resolves as soon as the condition holds. */
  until(condition: (page: this) => boolean): Promise<void> {
    return new Promise(resolve => {
      const check = () => {
        if (!condition(this)) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
      check()
    })
  }

  #on(name: string, listener: (event: MessageEvent) => void): void {
    this.#source.addEventListener(name, event => {
      listener(event as MessageEvent)
      for (const check of this.#waiting) check()
    })
  }
}
