/**
 * Decides where a stream with a cursor goes on: after that entry, if the window has it; otherwise
 * the log is asked how far it has got, since on another process the entry may just not have arrived
 * yet. Only when the window has caught up and still lacks it, it is a gap.
 *
 * Until then the stream is parked: open, with heartbeats, and nothing decided. However many wait,
 * the log is asked once.
 */
import type { EventLog } from './log/log.js'
import type { EventStream, GapReason } from './stream.js'
import type { Window } from './window.js'

export interface ResumptionOptions {
  readonly window: Window
  readonly log: EventLog
  readonly advance: (stream: EventStream) => void
  readonly onResumed: () => void
  readonly onError: (error: unknown) => void
}

export class Resumption {
  readonly #options: ResumptionOptions
  /** Who waits for an answer to a question that has not been put yet. */
  #parked = new Set<EventStream>()
  #isAsking = false
  /** Settles when the window has got as far as the log had. */
  #arrival: { id: string | null; resolve: (isRenewed: boolean) => void } | undefined
  #isUp = true

  constructor(options: ResumptionOptions) {
    this.#options = options
  }

  resume(stream: EventStream): void {
    if (this.#goOn(stream)) return
    stream.parked = true
    this.#parked.add(stream)
    void this.#ask()
  }

  forget(stream: EventStream): void {
    this.#parked.delete(stream)
  }

  /** The window has new entries. */
  windowChanged(): void {
    if (this.#options.window.hasReached(this.#arrival?.id ?? null)) this.#arrival?.resolve(false)
  }

  /** The window is another one, which may never get as far as the log was before. */
  windowRenewed(): void {
    this.#arrival?.resolve(true)
  }

  stateChanged(isUp: boolean): void {
    this.#isUp = isUp
    this.retry()
  }

  /** Puts the question again, in case the log failed to answer it. */
  retry(): void {
    void this.#ask()
  }

  #goOn(stream: EventStream): boolean {
    const position = this.#options.window.find(stream.lastEventId)
    if (position === undefined) return false
    stream.goOnAt(position)
    stream.hasCursor = true
    stream.parked = false
    this.#options.onResumed()
    return true
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      while (this.#parked.size > 0 && this.#isUp) {
        const asked = this.#parked
        this.#parked = new Set()
        if (!(await this.#caughtUp())) {
          // Out of reach: nothing is decided, and the question is put again once it is back.
          for (const stream of this.#parked) asked.add(stream)
          this.#parked = asked
          return
        }
        for (const stream of asked) this.#decide(stream)
      }
    } finally {
      this.#isAsking = false
    }
  }

  async #caughtUp(): Promise<boolean> {
    try {
      let isRenewed: boolean
      do {
        const id = await this.#options.log.barrier()
        isRenewed =
          !this.#options.window.hasReached(id) &&
          (await new Promise<boolean>(resolve => {
            this.#arrival = { id, resolve }
          }))
        this.#arrival = undefined
      } while (isRenewed)
      return true
    } catch (error) {
      this.#options.onError(error)
      return false
    }
  }

  #decide(stream: EventStream): void {
    if (stream.isClosed) return
    if (!this.#goOn(stream)) {
      const { window } = this.#options
      stream.parked = false
      stream.gap = gapReason(window, stream.lastEventId)
      // What is kept is newer than its cursor then, and a removal must not be slept through.
      if (stream.gap === 'trimmed') stream.removal = window.removalIn(stream.client.target)
    }
    this.#options.advance(stream)
  }
}

function gapReason(window: Window, lastEventId: string): GapReason {
  return window.isTrimmed(lastEventId) ? 'trimmed' : 'unknown'
}
