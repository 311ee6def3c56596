/**
 * What the log tells this process: the window as it is at first, new entries, the window anew when
 * continuity was lost, and whether the log is in reach.
 */
import type { Entry, LogSink } from '../log/log.js'
import { MESSAGE, type Messages } from '../log/messages.js'
import type { GapReason } from '../stream/stream.js'
import type { Resumable, Resumption } from './resume.js'
import type { Slot, Target } from './target.js'
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
    const places = new Map<Resumable, Place>()
    for (const reader of readers()) {
      if (reader.parked) continue
      reader.wake()
      places.set(reader, placeOf(reader, window))
    }
    window.clear()
    this.#isRenewing = true
    this.#options.messages.missed()
    this.#fill(entries)
    this.#isRenewing = false
    const find = (id: string | undefined) => (id === undefined ? undefined : window.find(id))
    for (const [reader, place] of places) {
      // What is no longer kept was before all that is.
      reader.openedAt = find(place.openedAt) ?? 0
      for (const [target, id] of place.joinedAt) reader.joinedAt?.set(target, find(id) ?? 0)
      const position = find(place.cursor)
      if (position !== undefined) reader.goOnAt(position)
      else {
        reader.gap = reason
        // What another log says of this id is from another time, as is what was said before it came.
        const isForeign =
          reason === 'replaced' || (reader.removal?.position ?? 0) <= reader.openedAt
        if (isForeign) reader.removal = place.removal
      }
      reader.wake()
    }
  }
}

/** Where a reader is, by ids, which outlast the window's positions. */
interface Place {
  readonly cursor: string | undefined
  readonly openedAt: string | undefined
  readonly joinedAt: readonly (readonly [Target, string | undefined])[]
  readonly removal: Slot | undefined
}

function placeOf({ cursor, openedAt, joinedAt, removal }: Resumable, window: Window): Place {
  return {
    cursor: window.idAt(cursor),
    openedAt: window.idAt(openedAt),
    joinedAt: [...(joinedAt ?? [])].map(([target, at]) => [target, window.idAt(at)] as const),
    removal,
  }
}
