/**
 * What the log tells this process: the window as it is at first, new entries, the window anew when
 * continuity was lost, and whether the log is in reach.
 */
import type { Entry, LogSink } from './log/log.js'
import { MESSAGE, type Messages } from './messages.js'
import type { Resumable, Resumption } from './resume.js'
import type { GapReason } from './stream.js'
import type { Window } from './window.js'

export interface FeedOptions {
  readonly window: Window
  readonly resumption: Resumption
  readonly messages: Messages
  /** All who have a cursor. */
  readonly readers: () => Iterable<Resumable>
  /** The window is filled for the first time: whoever came before can start now. */
  readonly onBoot: () => void
  readonly onError: (error: unknown) => void
}

export class Feed implements LogSink {
  readonly #options: FeedOptions
  #isUp = true
  #isBooted = false
  #isRenewing = false
  #entries = 0

  constructor(options: FeedOptions) {
    this.#options = options
  }

  /** Whether the log can be reached. */
  get isUp(): boolean {
    return this.#isUp
  }

  /** Whether the log has filled the window; until then nobody's cursor can be decided. */
  get isBooted(): boolean {
    return this.#isBooted
  }

  /** While the window is filled anew nobody's cursor fits it yet. */
  get isRenewing(): boolean {
    return this.#isRenewing
  }

  /** Events that came from the log. */
  get entries(): number {
    return this.#entries
  }

  reset(entries: readonly Entry[], reason: 'boot' | 'trimmed' | 'replaced'): void {
    if (reason === 'boot' && !this.#isBooted) {
      this.#fill(entries)
      this.#isBooted = true
      this.#options.onBoot()
    } else {
      this.#renew(entries, reason === 'replaced' ? 'replaced' : 'trimmed')
    }
    this.#options.resumption.windowRenewed()
  }

  append(entries: readonly Entry[]): void {
    const { window, messages } = this.#options
    for (const entry of entries) {
      if (entry.target === MESSAGE) {
        window.pass(entry.id)
        messages.hear(entry.frame)
        continue
      }
      if (entry.target !== '') this.#entries += 1
      window.append(entry)
    }
    this.#options.resumption.windowChanged()
  }

  state(isUp: boolean): void {
    this.#isUp = isUp
    this.#options.resumption.stateChanged(isUp)
  }

  error(error: unknown): void {
    this.#options.onError(error)
  }

  #fill(entries: readonly Entry[]): void {
    const { window, messages } = this.#options
    for (const entry of entries) {
      if (entry.target !== MESSAGE) {
        window.append(entry)
        continue
      }
      messages.recall(entry.frame)
      if (window.tailId !== undefined) window.pass(entry.id)
      // Where nothing else is kept yet it is the mark, or a gap would leave its client no cursor.
      else window.append({ id: entry.id, nonce: entry.nonce, target: '', frame: '' })
    }
  }

  /** Another window: all go on where they were, if it still has that place. */
  #renew(entries: readonly Entry[], reason: GapReason): void {
    const { window, readers } = this.#options
    const places = new Map<Resumable, string | undefined>()
    for (const reader of readers()) {
      if (reader.parked) continue
      reader.wake()
      places.set(reader, window.idAt(reader.cursor))
    }
    window.clear()
    this.#isRenewing = true
    this.#options.messages.missed()
    this.#fill(entries)
    this.#isRenewing = false
    for (const [reader, id] of places) {
      const position = id === undefined ? undefined : window.find(id)
      if (position !== undefined) reader.goOnAt(position)
      else {
        reader.gap = reason
        // What another log says of this id is from another time.
        if (reason === 'replaced') reader.removal = undefined
      }
      reader.wake()
    }
  }
}
