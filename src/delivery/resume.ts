/**
 * Decides where a reader with a cursor goes on: after that entry, if the window has it. Otherwise the
 * log is asked how far it has got, since on another process the entry may just not have arrived yet.
 * It is a gap only if the window has caught up with the log and still lacks the entry.
 *
 * Until then the reader is parked: a stream is open and has heartbeats, and nothing is decided. However
 * many readers wait, the log is asked once.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { EventLog } from '../log/log.js'
import { parseCursor } from './history.js'
import type { Reader } from './reader.js'
import type { Window } from './window.js'

/** Learns of resumes: the hub, which counts them. */
export interface ResumptionListener {
  /** A reader went on from its cursor without a gap. */
  resumed(): void
  /** The log could not be asked; it is asked again. */
  error(error: unknown): void
}

/** The least time between two questions: without it thousands of reconnects would cause hundreds. */
const PAUSE_MS = 10

export class Resumption {
  readonly #window: Window
  readonly #log: Pick<EventLog, 'barrier'>
  readonly #listener: ResumptionListener
  /** Readers that wait for an answer to a question that has not been asked yet. */
  #waiting = new Set<Reader>()
  #isAsking = false
  #lastQuestion = Number.NEGATIVE_INFINITY
  /** Settles when the window has got as far as the log had. */
  #arrival: { id: string | null; resolve: (isRenewed: boolean) => void } | undefined
  #isUp = true

  constructor(window: Window, log: Pick<EventLog, 'barrier'>, listener: ResumptionListener) {
    this.#window = window
    this.#log = log
    this.#listener = listener
  }

  /** Resumes the reader at once if the window has its cursor; otherwise parks it and asks the log. */
  resume(reader: Reader): void {
    if (this.#resumes(reader)) return
    reader.park()
    this.#waiting.add(reader)
    void this.#ask()
  }

  forget(reader: Reader): void {
    this.#waiting.delete(reader)
  }

  /** The window has new entries. */
  windowChanged(): void {
    if (this.#window.hasReached(this.#arrival?.id ?? null)) this.#arrival?.resolve(false)
  }

  /** The window was filled anew, perhaps from a log that never gets as far as the one before. */
  windowRenewed(): void {
    this.#arrival?.resolve(true)
  }

  stateChanged(isUp: boolean): void {
    this.#isUp = isUp
    this.retry()
  }

  /** Asks again, in case the log failed to answer. */
  retry(): void {
    void this.#ask()
  }

  #resumes(reader: Reader): boolean {
    const { id, openedAtId = '', latestOnly } = parseCursor(reader.lastEventId)
    const position = this.#window.find(id)
    if (position === undefined) return false
    reader.resumeAt(position, this.#window.find(openedAtId), latestOnly)
    this.#listener.resumed()
    return true
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      while (this.#waiting.size > 0 && this.#isUp) {
        const early = this.#lastQuestion + PAUSE_MS - performance.now()
        if (early > 0) await pause(early)
        const asking = this.#waiting
        this.#waiting = new Set()
        if (!(await this.#catchesUp())) {
          // The log is out of reach: nothing is decided, and it is asked again once it is back. But
          // not for readers that closed meanwhile, or they would be kept for ever.
          for (const reader of asking) if (!reader.isClosed) this.#waiting.add(reader)
          return
        }
        for (const reader of asking) this.#decide(reader)
      }
    } finally {
      this.#isAsking = false
    }
  }

  /** Whether the window has got as far as the log is now; false if the log cannot be asked. */
  async #catchesUp(): Promise<boolean> {
    try {
      let isRenewed: boolean
      do {
        this.#lastQuestion = performance.now()
        const id = await this.#log.barrier()
        isRenewed =
          !this.#window.hasReached(id) &&
          (await new Promise<boolean>(resolve => {
            this.#arrival = { id, resolve }
          }))
        this.#arrival = undefined
      } while (isRenewed)
      return true
    } catch (error) {
      this.#listener.error(error)
      return false
    }
  }

  #decide(reader: Reader): void {
    if (reader.isClosed) return
    if (!this.#resumes(reader)) {
      const { id, openedAtId = '' } = parseCursor(reader.lastEventId)
      if (this.#window.isTrimmed(id)) {
        // All that the window keeps is newer than its cursor, so a removal in there concerns it, unless
        // its client was in the middle of a history that had the removal in it.
        const { clientTarget } = reader
        const after = this.#window.find(openedAtId)
        reader.lose('trimmed', clientTarget && this.#window.removalIn(clientTarget, after))
      } else {
        reader.lose('unknown')
      }
    }
    reader.wake()
  }
}
