/**
 * Follows the stream: reads the window once, then whatever is added.
 *
 * Every read begins with the last entry that was read before, inclusive. That it is still there, as
 * it was, proves that nothing in between was lost, and this proof and the new entries come from one
 * command, so no FLUSHALL or XTRIM fits between them. XREAD, which can wait, is only the bell: what
 * it brings proves nothing.
 */
import type { Entry, LogSink } from '../log/log.js'
import { forgetOldest } from '../log/shared.js'
import type { Connection } from './connection.js'
import { compareRowIds, idBefore, isSameRow, type Row, toEntry } from './entry.js'
import { isErrorReply } from './errors.js'

/** Entries asked for at once, unless they are large. */
const PAGE_ENTRIES = 500

/** About how much a reply may hold, in characters: 500 entries may also be 500 MB. */
const PAGE_CHARACTERS = 4 * 1024 * 1024

/** How much longer than it may block a command may take, in ms. */
const BLOCK_GRACE_MS = 2000

export interface TailOptions {
  readonly key: string
  readonly maxEntries: number
  readonly windowBytes: number
  readonly blockMs: number
  readonly timeout: number
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  /** Appends an entry that nobody receives. */
  readonly mark: (connection: Connection) => Promise<void>
}

interface Waiter {
  readonly id: string
  readonly resolve: (entryId: string) => void
  readonly reject: (error: unknown) => void
}

export class Tail {
  readonly #options: TailOptions
  /** The last entry read, ours or not; undefined before the first window. */
  #last: Row | undefined
  #lastEntryId = ''
  /** The ids of the newest entries, by nonce: one that comes again was sent again. */
  #ids = new Map<string, string>()
  #foreign = 0
  /** How many entries the stream has ever got, at least; Redis counts that since version 7. */
  #added = 0
  #waiters: Waiter[] = []
  #page = 50

  constructor(options: TailOptions) {
    this.#options = options
  }

  get foreign(): number {
    return this.#foreign
  }

  /** The id under which readers know the entry with this nonce, if it is among the newest. */
  idOf(nonce: string): string | undefined {
    return this.#ids.get(nonce)
  }

  /** Resolves as soon as everything up to this id of Redis' was read, to the last entry's id. */
  whenRead(id: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ id, resolve, reject })
      this.#settleWaiters()
    })
  }

  /** Tells those who wait that it may take long. */
  rejectWaiters(error: unknown): void {
    for (const { reject } of this.#waiters.splice(0)) reject(error)
  }

  async follow(connection: Connection, onHealthy: () => void): Promise<never> {
    const { key, blockMs } = this.#options
    if (this.#last === undefined) await this.#readWindow(connection, 'boot')
    for (;;) {
      const isAtEnd = await this.#read(connection)
      onHealthy()
      if (!isAtEnd) continue
      const wait = ['XREAD', 'COUNT', '1', 'BLOCK', String(blockMs), 'STREAMS', key, this.#cursor]
      await connection.send(wait, blockMs + BLOCK_GRACE_MS)
    }
  }

  /** Only ever what Redis itself has replied. */
  get #cursor(): string {
    return (this.#last as Row)[0]
  }

  async #read(connection: Connection): Promise<boolean> {
    const { key, timeout } = this.#options
    const count = this.#page + 1
    const range = ['XRANGE', key, this.#cursor, '+', 'COUNT', String(count)]
    const rows = (await connection.send(range, timeout)) as Row[]
    if (!isSameRow(rows[0], this.#last as Row)) {
      await this.#readWindow(connection, await this.#lossReason(connection, rows[0]))
      return false
    }
    if (rows.length > 1) {
      this.#fitPage(rows)
      this.#added += rows.length - 1
      // Before the sink is called, as it would otherwise get all of it again if it failed.
      this.#last = rows.at(-1) as Row
      const entries = this.#newEntries(rows, 1)
      if (entries.length > 0) this.#options.sink.append(entries)
      this.#settleWaiters()
    }
    return rows.length < count
  }

  /** Those that are ours and new. */
  #newEntries(rows: readonly Row[], from: number): Entry[] {
    const entries: Entry[] = []
    for (let index = from; index < rows.length; index++) {
      const entry = toEntry(rows[index] as Row)
      if (entry === undefined) this.#foreign += 1
      else if (this.#isNew(entry)) entries.push(entry)
    }
    return entries
  }

  #isNew({ nonce, id }: Entry): boolean {
    const ids = this.#ids
    if (ids.has(nonce)) return false
    ids.set(nonce, id)
    forgetOldest(ids, this.#options.maxEntries)
    this.#lastEntryId = id
    return true
  }

  /** Reads the window anew. */
  async #readWindow(
    connection: Connection,
    reason: 'boot' | 'trimmed' | 'replaced',
  ): Promise<void> {
    for (;;) {
      const info = await this.#info(connection)
      const rows = await this.#newest(connection)
      this.#ids = new Map()
      const entries = this.#newEntries(rows, 0)
      if (entries.length > 0) {
        // Asked for before the rows, so that none of those that come later is counted twice.
        this.#added = Math.max(info?.added ?? 0, rows.length)
        this.#last = rows.at(-1) as Row
        this.#options.sink.reset(entries, reason)
        // What they waited for may never come in this window.
        for (const { resolve } of this.#waiters.splice(0)) resolve(this.#lastEntryId)
        return
      }
      // So that there is a cursor from the first moment; other processes may do the same meanwhile.
      await this.#options.mark(connection)
    }
  }

  /** The newest entries, in order, read from the end until there are enough. */
  async #newest(connection: Connection): Promise<Row[]> {
    const { key, maxEntries, windowBytes, timeout } = this.#options
    const newestFirst: Row[] = []
    let bytes = 0
    let end = '+'
    for (;;) {
      const count = Math.min(this.#page, maxEntries - newestFirst.length)
      const range = ['XREVRANGE', key, end, '-', 'COUNT', String(count)]
      const page = (await connection.send(range, timeout)) as Row[]
      this.#fitPage(page)
      for (const row of page) {
        bytes += sizeOf(row)
        // The newest always counts, however large it is.
        if (bytes > windowBytes && newestFirst.length > 0) return newestFirst.reverse()
        newestFirst.push(row)
      }
      const oldest = page.at(-1)
      if (!oldest || page.length < count || newestFirst.length === maxEntries) {
        return newestFirst.reverse()
      }
      end = idBefore(oldest[0])
    }
  }

  /** The next page is as large as it may be if its entries are like these. */
  #fitPage(rows: readonly Row[]): void {
    if (rows.length === 0) return
    let size = 1
    for (const row of rows) size += sizeOf(row)
    this.#page = Math.max(
      1,
      Math.min(PAGE_ENTRIES, Math.floor((PAGE_CHARACTERS * rows.length) / size)),
    )
  }

  /** The last entry read is no longer there: has only its end been cut off, or is it another log? */
  async #lossReason(
    connection: Connection,
    first: Row | undefined,
  ): Promise<'trimmed' | 'replaced'> {
    const { maxEntries } = this.#options
    // The same id with another content.
    if (first?.[0] === this.#cursor) return 'replaced'
    const info = await this.#info(connection)
    if (info === undefined) return 'replaced'
    const order = compareRowIds(info.lastId, this.#cursor)
    if (order <= 0) return order === 0 ? 'trimmed' : 'replaced'
    if (info.added !== undefined) return info.added >= this.#added ? 'trimmed' : 'replaced'
    // Before Redis 7: one that has been emptied is shorter than what appending trims it to.
    return info.length >= maxEntries ? 'trimmed' : 'replaced'
  }

  /** Undefined when there is no such stream, or we may not ask. */
  async #info(connection: Connection) {
    const { key, timeout } = this.#options
    try {
      const reply = await connection.send(['XINFO', 'STREAM', key], timeout)
      const pairs = reply as readonly unknown[]
      const value = (name: string) => pairs[pairs.indexOf(name) + 1]
      const added = pairs.includes('entries-added') ? Number(value('entries-added')) : undefined
      return { lastId: String(value('last-generated-id')), length: Number(value('length')), added }
    } catch (error) {
      if (isErrorReply(error) && /^(ERR no such key|NOPERM)/.test((error as Error).message))
        return undefined
      throw error
    }
  }

  #settleWaiters(): void {
    const last = this.#last
    if (this.#waiters.length === 0 || last === undefined) return
    const waiting = this.#waiters
    this.#waiters = []
    for (const waiter of waiting) {
      if (compareRowIds(last[0], waiter.id) >= 0) waiter.resolve(this.#lastEntryId)
      else this.#waiters.push(waiter)
    }
  }
}

function sizeOf([, fields]: Row): number {
  let size = 0
  for (const field of fields) size += field.length
  return size
}
