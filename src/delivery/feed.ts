/**
 * Receives what the log reports to this process: the first window, new entries, a new window after
 * continuity was lost, and whether the log is in reach.
 */
import type { GapReason } from '../lib/reasons.js'
import type { Entry, LogSink } from '../log/log.js'
import { MESSAGE, type Messages } from '../log/messages.js'
import { isPoolFrame } from '../wire/event.js'
import type { InFlight } from './in-flight.js'
import type { Place, Reader } from './reader.js'
import type { Resumption } from './resume.js'
import type { Window } from './window.js'

/** What the log's reports concern beside the window: the hub. */
export interface FeedListener {
  /** All readers of this process. */
  readers(): Iterable<Reader>
  /** The window was filled for the first time: readers that arrived earlier can start. */
  booted(): void
  /** A new entry is in the window. */
  appended(entry: Entry): void
  /** The log has failed. */
  error(error: unknown): void
}

export class Feed implements LogSink {
  readonly #window: Window
  readonly #inFlight: InFlight
  readonly #resumption: Resumption
  readonly #messages: Messages
  readonly #listener: FeedListener
  #isUp = true
  #isBooted = false
  #entries = 0
  #foreign = 0

  constructor(
    window: Window,
    inFlight: InFlight,
    resumption: Resumption,
    messages: Messages,
    listener: FeedListener,
  ) {
    this.#window = window
    this.#inFlight = inFlight
    this.#resumption = resumption
    this.#messages = messages
    this.#listener = listener
  }

  /** Whether the log can be reached. */
  get isUp(): boolean {
    return this.#isUp
  }

  /** Whether the log has filled the window; until then no reader's cursor can be decided. */
  get isBooted(): boolean {
    return this.#isBooted
  }

  /** How many events the log has delivered. */
  get entries(): number {
    return this.#entries
  }

  /** How many entries were skipped because something else wrote them. */
  get foreign(): number {
    return this.#foreign
  }

  reset(entries: readonly Entry[], reason: 'boot' | 'trimmed' | 'replaced'): void {
    if (reason === 'boot' && !this.#isBooted) {
      this.#fill(entries)
      this.#isBooted = true
      this.#listener.booted()
    } else {
      this.#refill(entries, reason === 'replaced' ? 'replaced' : 'trimmed')
    }
    this.#resumption.windowRefilled()
    // Only now, as direct sends that wait for them go out at once.
    for (const { nonce, id } of entries) this.#inFlight.arrived(nonce, this.#window.find(id) ?? 0)
    this.#inFlight.settlePassed()
  }

  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.target === MESSAGE) {
        this.#window.pass(entry.id)
        this.#messages.receive(entry.frame)
        this.#inFlight.arrived(entry.nonce, this.#window.end)
        continue
      }
      if (this.#isForeign(entry)) {
        this.#foreign += 1
        this.#window.pass(entry.id)
        continue
      }
      if (entry.target !== '') this.#entries += 1
      this.#window.append(entry)
      this.#listener.appended(entry)
      this.#inFlight.arrived(entry.nonce, this.#window.end)
    }
    this.#resumption.windowChanged()
    this.#inFlight.settlePassed()
  }

  state(isUp: boolean): void {
    this.#isUp = isUp
    this.#resumption.stateChanged(isUp)
  }

  error(error: unknown): void {
    this.#listener.error(error)
  }

  /** @param fresh messages among the entries that this process has not received before. */
  #fill(entries: readonly Entry[], fresh?: ReadonlySet<Entry>): void {
    const window = this.#window
    for (const entry of entries) {
      const isMessage = entry.target === MESSAGE
      if (!isMessage && !this.#isForeign(entry)) {
        window.fill(entry)
        continue
      }
      if (isMessage) this.#messages.replay(entry.frame, fresh?.has(entry) ?? false)
      else this.#foreign += 1
      if (window.tailId !== undefined) window.pass(entry.id)
      // In an empty window it serves as the mark: without one, a gap would leave its client without a
      // cursor.
      else window.fill({ id: entry.id, nonce: entry.nonce, target: '', frame: '' })
    }
    // Every log begins with a mark.
    window.filled((entries[0]?.target ?? '') === '')
  }

  /** Whether something else has written it, in a form that must not reach a socket. */
  #isForeign({ target, frame }: Entry): boolean {
    return !this.#messages.isAlone && target !== '' && !isPoolFrame(frame)
  }

  /**
   * Replaces the window's entries. Each reader continues where it was, if the log still has that place and what was to
   * come after it.
   */
  #refill(entries: readonly Entry[], reason: GapReason): void {
    const lostFrom = this.#window.lostFrom(new Set(entries.map(({ id }) => id)))
    const places = new Map<Reader, Place>()
    for (const reader of this.#listener.readers()) {
      // Deliver what the old window still has for the reader, before it is cleared.
      if (!reader.isParked) reader.wake()
      places.set(reader, reader.placeIn(this.#window, lostFrom))
    }
    const isFresh = ({ target, id }: Entry) => target === MESSAGE && this.#window.willReach(id)
    const fresh = new Set(entries.filter(isFresh))
    this.#window.clear()
    this.#messages.missed()
    this.#fill(entries, fresh)
    for (const [reader, place] of places) reader.moveToPlace(place, this.#window, reason)
    // All of them first: a listener may send to a reader that would still read with its old cursor.
    for (const reader of places.keys()) reader.wake()
  }
}
