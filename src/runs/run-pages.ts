/** One reader's way through a run, from its beginning or from where it was, to the end. */
import type { LastPage, Page, Pages } from '../delivery/pages.js'
import type { Reader } from '../delivery/reader.js'
import type { GapReason } from '../lib/reasons.js'
import type { Format } from './formats.js'
import { formatOffset, parseOffset } from './offset.js'
import { gapPage } from './page.js'
import type { RunFeed } from './run-feed.js'
import { endingOf } from './state.js'

export class RunPages implements Pages {
  readonly #feed: RunFeed
  readonly #reader: Reader
  readonly #format: Format
  readonly #pingInterval: number | false | undefined
  #position: number
  #gap: GapReason | undefined
  #isCaughtUp = false

  /**
   * @param offset that the reader has, `''` to begin at the beginning. Do not trust it.
   * @param pingInterval undefined if heartbeats are comments, and so cursors no events.
   */
  constructor(
    feed: RunFeed,
    reader: Reader,
    offset: string,
    format: Format,
    pingInterval: number | false | undefined,
  ) {
    this.#feed = feed
    this.#reader = reader
    this.#format = format
    this.#pingInterval = pingInterval
    const start = startOf(feed, offset)
    this.#position = start.position
    this.#gap = start.gap
    feed.add(reader)
  }

  get cursor(): string {
    return formatOffset(this.#position, this.#feed)
  }

  next(): Page | LastPage | undefined {
    const feed = this.#feed
    if (this.#gap !== undefined) return this.#readGap(this.#gap)
    const page = feed.pageAfter(this.#position)
    if (page !== undefined) {
      const hasLost = page.after > this.#position
      this.#position = page.after
      if (hasLost) return this.#readGap('trimmed')
      this.#position = page.end
      return page.as(this.#format.hasIds)
    }
    if (feed.isGone) return this.#format.lastPage({ state: 'deleted' })
    // Being read from the store.
    if (this.#position < feed.record.tail) return undefined
    if (feed.isOver) return this.#format.lastPage(endingOf(feed.record))
    if (this.#isCaughtUp) return undefined
    this.#isCaughtUp = true
    if (this.#pingInterval === undefined) return undefined
    return this.#format.cursorAt(this.cursor, this.#pingInterval)
  }

  close(): void {
    this.#feed.delete(this.#reader)
  }

  #readGap(reason: GapReason): Page {
    this.#gap = undefined
    return gapPage(reason, this.cursor, this.#format.gap)
  }
}

/** Where to begin. An offset of an earlier run of this id, or of none, is a gap before the beginning. */
export function startOf(
  { generation, record }: Pick<RunFeed, 'generation' | 'record'>,
  offset: string,
): { position: number; gap?: GapReason } {
  if (offset === '') return { position: 0 }
  const given = parseOffset(offset)
  const isKnown = given?.generation === generation && given.position <= record.tail
  if (!isKnown) return { position: record.start, gap: 'unknown' }
  return { position: given.position }
}
