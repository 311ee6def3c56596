/**
 * Decides where a stream with a cursor goes on: after that entry, if the window has it; otherwise
 * the log is asked how far it has got, since on another process the entry may just not have arrived
 * yet. Only when the window has caught up and still lacks it, it is a gap.
 *
 * Until then the stream is parked: open, with heartbeats, and nothing decided. However many wait,
 * the log is asked once.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { EventLog } from '../log/log.js'
import type { GapReason } from '../stream/stream.js'
import type { Slot, Target } from './target.js'
import type { Window } from './window.js'

/** Who goes on from a cursor: an event stream, or a tap. */
export interface Resumable {
  readonly lastEventId: string
  cursor: number
  openedAt: number
  latestOnly: boolean
  readonly joinedAt: Map<Target, number> | undefined
  readonly clientTarget: Target | undefined
  readonly isClosed: boolean
  parked: boolean
  gap: GapReason | undefined
  removal: Slot | undefined
  hasCursor: boolean
  goOnAt(position: number): void
  /** It is decided where it goes on. */
  wake(): void
}

export interface ResumptionOptions {
  readonly window: Window
  readonly log: EventLog
  readonly onResumed: () => void
  readonly onError: (error: unknown) => void
}

/** Milliseconds between two questions: thousands who come back at once would else cost hundreds. */
const PAUSE = 10

export class Resumption {
  readonly #options: ResumptionOptions
  /** Who waits for an answer to a question that has not been put yet. */
  #parked = new Set<Resumable>()
  #isAsking = false
  #lastQuestion = Number.NEGATIVE_INFINITY
  /** Settles when the window has got as far as the log had. */
  #arrival: { id: string | null; resolve: (isRenewed: boolean) => void } | undefined
  #isUp = true

  constructor(options: ResumptionOptions) {
    this.#options = options
  }

  resume(reader: Resumable): void {
    if (this.#goOn(reader)) return
    reader.parked = true
    this.#parked.add(reader)
    void this.#ask()
  }

  forget(reader: Resumable): void {
    this.#parked.delete(reader)
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

  #goOn(reader: Resumable): boolean {
    const position = this.#options.window.find(reader.lastEventId)
    if (position === undefined) return false
    reader.goOnAt(position)
    reader.hasCursor = true
    reader.parked = false
    this.#options.onResumed()
    return true
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      while (this.#parked.size > 0 && this.#isUp) {
        const early = this.#lastQuestion + PAUSE - performance.now()
        if (early > 0) await pause(early)
        const asked = this.#parked
        this.#parked = new Set()
        if (!(await this.#caughtUp())) {
          // Out of reach: nothing is decided, and the question is put again once it is back.
          // But not for those who left meanwhile, or it would be for ever.
          for (const reader of asked) if (!reader.isClosed) this.#parked.add(reader)
          return
        }
        for (const reader of asked) this.#decide(reader)
      }
    } finally {
      this.#isAsking = false
    }
  }

  async #caughtUp(): Promise<boolean> {
    try {
      let isRenewed: boolean
      do {
        this.#lastQuestion = performance.now()
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

  #decide(reader: Resumable): void {
    if (reader.isClosed) return
    if (!this.#goOn(reader)) {
      const { window } = this.#options
      reader.parked = false
      reader.gap = gapReason(window, reader.lastEventId)
      // What is kept is newer than its cursor then, and a removal must not be slept through.
      if (reader.gap === 'trimmed' && reader.clientTarget !== undefined) {
        reader.removal = window.removalIn(reader.clientTarget)
      }
    }
    reader.wake()
  }
}

function gapReason(window: Window, lastEventId: string): GapReason {
  return window.isTrimmed(lastEventId) ? 'trimmed' : 'unknown'
}
