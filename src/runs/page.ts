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
      const run = { generation: this.#generation }
      this.#withIds ??= this.#page(index => formatOffset(this.after + index + 1, run))
      return this.#withIds
    }
    this.#withoutIds ??= this.#page(() => '')
    return this.#withoutIds
  }

  #page(idOf: (index: number) => string): Page {
    const frames = () => this.#entries.map((frame, index) => ({ id: idOf(index), frame }))
    const text = this.#entries.map((frame, index) => textOf(idOf(index), frame)).join('')
    return new FramePage(text, this.#entries.length, frames)
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
  return new FramePage(textOf(id, text), 0, () => [{ id, frame: text }], reason)
}

function textOf(id: string, frame: string): string {
  return id === '' ? frame : entryFrame(id, frame)
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
