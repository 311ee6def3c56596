/**
 * Decides where a reader with a cursor continues: after that entry, if the window has it. Otherwise the
 * log is asked for its last id, because the entry may just not have arrived in this process yet. The
 * reader gets a gap only if the window has caught up with the log and still lacks the entry.
 *
 * Until then the reader is parked: a stream is open and gets heartbeats, but no entries. However many
 * readers wait, the log is asked once.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { GapReason } from '../lib/reasons.js'
import type { EventLog } from '../log/log.js'
import { parseCursor } from './history.js'
import type { Reader } from './reader.js'
import type { Window } from './window.js'

/** What the outcome is reported to: the hub. */
export interface ResumptionListener {
  /** A reader continued from its cursor without a gap. */
  resumed(reader: Reader): void
  /** A reader cannot continue from its cursor. */
  lost(reader: Reader, reason: GapReason): void
  /** It is decided where a reader that was parked continues, and the reader was woken. */
  settled(reader: Reader): void
  /** The log could not be asked; it will be asked again. */
  error(error: unknown): void
}

/** The least time between two questions: without it, thousands of reconnects would cause hundreds. */
const PAUSE_MS = 10

export class Resumption {
  readonly #window: Window
  readonly #log: Pick<EventLog, 'barrier'>
  readonly #listener: ResumptionListener
  /** Readers that the next question to the log will be asked for. */
  #waiting = new Set<Reader>()
  #isAsking = false
  #lastQuestion = Number.NEGATIVE_INFINITY
  /** The log's last id, while the window has not reached it yet. */
  #arrival: { id: string | null; resolve: (isRefilled: boolean) => void } | undefined
  #isUp = true
  #isClosed = false

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

  /** The window was refilled, perhaps from another log, which may never reach that id. */
  windowRefilled(): void {
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
    const openedAt = this.#window.find(openedAtId)
    reader.resumeAt(position, this.#window.tail, openedAt, latestOnly)
    const removal = this.#window.removalFor(reader, openedAt ?? position)
    // It was not there when the entry came, and the entry may be evicted before it gets to it.
    if (removal !== undefined) reader.endWith(removal)
    this.#listener.resumed(reader)
    return true
  }

  /** Asks no more, and reports no failure: a closed log answers no question. */
  close(): void {
    this.#isClosed = true
    this.#waiting.clear()
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      while (this.#waiting.size > 0 && this.#isUp) {
        const early = this.#lastQuestion + PAUSE_MS - performance.now()
        if (early > 0) await pause(early)
        if (this.#isClosed) return
        const asking = this.#waiting
        this.#waiting = new Set()
        if (!(await this.#catchesUp())) {
          // The log is out of reach: decide nothing, and ask again once it is back. Readers that have
          // closed meanwhile are left out, or they would be kept for ever.
          for (const reader of asking) if (!reader.isClosed) this.#waiting.add(reader)
          return
        }
        for (const reader of asking) this.#decide(reader)
      }
    } finally {
      this.#isAsking = false
    }
  }

  /** Waits until the window has reached the log's last id; false if the log cannot be asked. */
  async #catchesUp(): Promise<boolean> {
    try {
      let isRefilled: boolean
      do {
        this.#lastQuestion = performance.now()
        const id = await this.#log.barrier()
        isRefilled =
          !this.#window.hasReached(id) &&
          (await new Promise<boolean>(resolve => {
            this.#arrival = { id, resolve }
          }))
        this.#arrival = undefined
      } while (isRefilled)
      return true
    } catch (error) {
      if (!this.#isClosed) this.#listener.error(error)
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
        const after = this.#window.find(openedAtId)
        // One that came while the reader was parked may be older than its cursor, and evicted like it.
        const last = openedAtId || id
        reader.forgetRemoval(removal => this.#window.isUpTo(removal.id, last))
        reader.lose('trimmed', this.#window.removalFor(reader, after), after)
        this.#listener.lost(reader, 'trimmed')
      } else {
        reader.lose('unknown')
        this.#listener.lost(reader, 'unknown')
      }
    }
    reader.wake()
    this.#listener.settled(reader)
  }
}
