/**
 * What the readers of one run on this process share: where the run is, its newest entries, and the pages that
 * were encoded for one of them. It watches the store for as long as there is a reader.
 *
 * A reader holds a position and nothing else, so a slow one costs no memory, and a late one reads pages.
 */
import type { Audience, Pump } from '../delivery/pump.js'
import type { Reader } from '../delivery/reader.js'
import type { RunNews, RunRecord, RunStore } from '../log/run-store.js'
import { EntryPage } from './page.js'

/** What a page has at most, so that a late reader gets few writes and none of them is huge. */
const PAGE = { entries: 10_000, length: 256 * 1024 }

/** How much of the newest entries is kept, in characters, so that live readers cause no reads of the store. */
const RECENT_LENGTH = 256 * 1024

/** How many pages are kept for readers that come after the first. */
const MAX_PAGES = 16

/** After the store has failed, in milliseconds. */
const RETRY_MS = 1000

/** How much later than the lease the store is asked, in milliseconds: its clock decides, and not ours. */
const LEASE_MARGIN_MS = 50

export interface RunFeedHost {
  readonly store: RunStore
  readonly pump: Pump
  error(error: unknown): void
  /** It has no reader any more. */
  idle(feed: RunFeed): void
}

export class RunFeed implements Audience {
  readonly id: string
  readonly generation: string
  readonly #host: RunFeedHost
  readonly #unwatch: () => void
  readonly #readers = new Set<Reader>()
  /** What else waits for news: iterations. */
  readonly #listeners = new Set<() => void>()
  #record: RunRecord
  /** It was deleted, and perhaps begun again. */
  #isGone = false
  /** The newest entries; the first one's position is `#recentFrom + 1`. */
  #recent: string[] = []
  #recentFrom: number
  #recentLength = 0
  readonly #pages = new Map<number, EntryPage>()
  /** Positions that are being read from the store. */
  readonly #loading = new Set<number>()
  #leaseTimer: NodeJS.Timeout | undefined
  #retryTimer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(id: string, record: RunRecord, host: RunFeedHost) {
    this.id = id
    this.generation = record.generation
    this.#host = host
    this.#record = record
    this.#recentFrom = record.tail
    this.#unwatch = host.store.watch(id, news => this.#receive(news))
    this.#watchLease()
  }

  get record(): RunRecord {
    return this.#record
  }

  /** Whether nothing more will come. */
  get isOver(): boolean {
    return this.#isGone || this.#record.status !== 'open'
  }

  /** Whether its entries are no longer there. */
  get isGone(): boolean {
    return this.#isGone
  }

  /** A reader has asked the store, which may know more than the news has told. */
  meet(record: RunRecord): void {
    this.#update(record)
  }

  // As an audience of the pump

  get size(): number {
    return this.#readers.size
  }

  members(): IterableIterator<Reader> {
    return this.#readers.values()
  }

  add(reader: Reader): void {
    this.#readers.add(reader)
  }

  delete(reader: Reader): void {
    this.#readers.delete(reader)
    this.#closeIfIdle()
  }

  /** Calls the listener when there may be more to read. Returns a function that ends it. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
      this.#closeIfIdle()
    }
  }

  /**
   * The entries after a position, if they are at hand. If not, they are read from the store and the readers are
   * woken then; undefined also if there are none.
   */
  pageAfter(position: number): EntryPage | undefined {
    const { tail } = this.#record
    if (this.#isGone || position >= tail) return undefined
    const kept = this.#pages.get(position)
    if (kept !== undefined && (kept.isFull || kept.end === tail)) return kept
    if (position >= this.#recentFrom) {
      const { entries, isFull } = fitting(this.#recent, position - this.#recentFrom)
      return this.#keep(position, new EntryPage(this.generation, position, entries, isFull))
    }
    void this.#load(position)
    return undefined
  }

  #keep(position: number, page: EntryPage): EntryPage {
    this.#pages.delete(position)
    this.#pages.set(position, page)
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= MAX_PAGES) break
      this.#pages.delete(oldest)
    }
    return page
  }

  async #load(position: number): Promise<void> {
    if (this.#loading.has(position)) return
    this.#loading.add(position)
    try {
      const read = await this.#host.store.read(this.id, position, PAGE)
      if (this.#isClosed) return
      if (read === undefined || read.run.generation !== this.generation) {
        this.#end()
      } else {
        const { entries, after } = read
        // Under the position that was asked for, because what comes before `after` is lost.
        if (entries.length > 0 || after > position) {
          this.#keep(position, new EntryPage(this.generation, after, entries, true))
        }
        this.#update(read.run)
      }
    } catch (error) {
      this.#retry(error)
    } finally {
      this.#loading.delete(position)
    }
    this.#wake()
  }

  #receive(news: RunNews | undefined): void {
    if (news === undefined) {
      void this.#refresh()
      return
    }
    if (news.run.generation !== this.generation) {
      this.#end()
    } else {
      const recentEnd = this.#recentFrom + this.#recent.length
      if (news.run.tail > recentEnd) {
        // What lies between was not heard of; readers get it from the store.
        if (news.after !== recentEnd) this.#forgetRecent(news.after)
        this.#remember(news.entries)
      }
      this.#update(news.run)
    }
    this.#wake()
  }

  async #refresh(): Promise<void> {
    try {
      const record = await this.#host.store.get(this.id)
      if (this.#isClosed) return
      if (record === undefined || record.generation !== this.generation) this.#end()
      else this.#update(record)
      this.#wake()
    } catch (error) {
      this.#retry(error)
    }
  }

  /** Replies and news may overtake each other, so an older record changes nothing. */
  #update(record: RunRecord): void {
    const isOlder =
      record.tail < this.#record.tail ||
      (this.#record.status !== 'open' && record.status === 'open')
    if (isOlder) return
    if (record.tail > this.#recentFrom + this.#recent.length) this.#forgetRecent(record.tail)
    this.#record = record
    if (record.status === 'deleted' || record.status === 'expired') this.#end()
    this.#watchLease()
  }

  #end(): void {
    this.#isGone = true
    this.#forgetRecent(this.#record.tail)
    this.#pages.clear()
  }

  #remember(entries: readonly string[]): void {
    for (const entry of entries) {
      this.#recent.push(entry)
      this.#recentLength += entry.length
    }
    // Half of them at once, because removing them one by one would move the rest each time.
    if (this.#recentLength <= 2 * RECENT_LENGTH) return
    let count = 0
    while (this.#recentLength > RECENT_LENGTH && count < this.#recent.length - 1) {
      this.#recentLength -= (this.#recent[count] as string).length
      count += 1
    }
    this.#recent.splice(0, count)
    this.#recentFrom += count
  }

  #forgetRecent(tail: number): void {
    this.#recent = []
    this.#recentLength = 0
    this.#recentFrom = tail
  }

  #wake(): void {
    if (this.#readers.size > 0) this.#host.pump.visit(this)
    for (const listener of this.#listeners) listener()
  }

  #watchLease(): void {
    clearTimeout(this.#leaseTimer)
    const { leaseLeft } = this.#record
    if (leaseLeft === undefined || this.isOver || this.#isClosed) return
    const delay = Math.max(leaseLeft, 0) + LEASE_MARGIN_MS
    this.#leaseTimer = setTimeout(() => this.#refresh(), delay).unref()
  }

  #retry(error: unknown): void {
    if (this.#isClosed || this.#retryTimer !== undefined) return
    this.#host.error(error)
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined
      void this.#refresh()
    }, RETRY_MS).unref()
  }

  #closeIfIdle(): void {
    if (this.#isClosed || this.#readers.size > 0 || this.#listeners.size > 0) return
    this.#isClosed = true
    clearTimeout(this.#leaseTimer)
    clearTimeout(this.#retryTimer)
    this.#unwatch()
    this.#host.idle(this)
  }
}

/** As many entries from an index on as fit into a page. */
function fitting(entries: readonly string[], from: number): { entries: string[]; isFull: boolean } {
  let length = 0
  let end = from
  while (end < entries.length && end - from < PAGE.entries) {
    length += (entries[end] as string).length
    if (length > PAGE.length && end > from) break
    end += 1
  }
  return { entries: entries.slice(from, end), isFull: end < entries.length }
}
