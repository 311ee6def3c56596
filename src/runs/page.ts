/** What readers of a run get as one write. */
import { Page } from '../delivery/pages.js'
import type { GapReason } from '../lib/reasons.js'
import { Chunk } from '../wire/event.js'
import { cursorFrame, entryFrame, gapFrame } from '../wire/frames.js'
import { formatOffset } from './offset.js'

/** Consecutive entries of a run, encoded once for all readers that get them. */
export class EntryPage {
  /** The position before its first entry. */
  readonly after: number
  /** The position of its last entry. */
  readonly end: number
  /** Whether it cannot grow: the next entries make another page. */
  readonly isFull: boolean
  readonly #generation: string
  readonly #entries: readonly string[]
  #withIds: Page | undefined
  #withoutIds: Page | undefined

  constructor(generation: string, after: number, entries: readonly string[], isFull: boolean) {
    this.after = after
    this.end = after + entries.length
    this.isFull = isFull
    this.#generation = generation
    this.#entries = entries
  }

  as(withIds: boolean): Page {
    if (withIds) {
      this.#withIds ??= new FramePage(this.#textWithIds(), this.#entries.length, () =>
        this.#entries.map((frame, index) => ({ id: this.#idOf(index), frame })),
      )
      return this.#withIds
    }
    this.#withoutIds ??= new FramePage(this.#entries.join(''), this.#entries.length, () =>
      this.#entries.map(frame => ({ id: '', frame })),
    )
    return this.#withoutIds
  }

  /** Added up in a loop, which takes a third less time for a page of 10,000 entries than `map` and `join`. */
  #textWithIds(): string {
    let text = ''
    this.#entries.forEach((frame, index) => {
      text += entryFrame(this.#idOf(index), frame)
    })
    return text
  }

  #idOf(index: number): string {
    return formatOffset(this.after + index + 1, { generation: this.#generation })
  }
}

/** @param id `''` for none. */
interface Frame {
  readonly id: string
  readonly frame: string
}

class FramePage extends Page {
  readonly count: number
  readonly gap: GapReason | undefined
  readonly chunk: Chunk
  readonly bytes: number
  /** Most pages are only written, and keeping an object for each event would double their memory. */
  readonly #events: () => readonly Frame[]

  constructor(text: string, count: number, events: () => readonly Frame[], gap?: GapReason) {
    super()
    this.count = count
    this.gap = gap
    this.chunk = new Chunk(text)
    this.bytes = Buffer.byteLength(text)
    this.#events = events
  }

  events(): readonly Frame[] {
    return this.#events()
  }
}

/** Tells a reader that it has missed something, in the words of its format. */
export function gapPage(reason: GapReason, offset: string, frame?: string): Page {
  const id = frame === undefined ? offset : ''
  const text = frame ?? gapFrame(reason, undefined).text
  const shown = id === '' ? text : entryFrame(id, text)
  return new FramePage(shown, 0, () => [{ id, frame: text }], reason)
}

/** Gives a reader that has everything its cursor, before the first event or after what it has missed. */
export function cursorPage(offset: string, pingInterval: number | false): Page {
  return new CursorPage(cursorFrame(offset, pingInterval))
}

/** No event to those that are not streams: a poll has its cursor beside the events. */
class CursorPage extends Page {
  readonly count = 0
  readonly gap = undefined
  readonly chunk: Chunk
  readonly bytes: number

  constructor(chunk: Chunk) {
    super()
    this.chunk = chunk
    this.bytes = Buffer.byteLength(chunk.text)
  }

  events(): readonly Frame[] {
    return []
  }
}
