/**
 * Follows the stream: reads the window once, then each new entry.
 *
 * Every read starts at the last row that was read, inclusive. If that row is unchanged, nothing in
 * between was lost. The row and the new entries come from a single command, so no FLUSHALL or XTRIM can
 * happen between them. XREAD can block, so it is used to wait for new entries, but its reply does not
 * contain the previous row and is ignored.
 */
import type { Entry, LogSink } from '../log/log.js'
import { forgetOldest } from '../log/shared.js'
import type { RedisConnection } from './connection.js'
import { compareRowIds, idBefore, isSameRow, type Row, toEntry } from './entry.js'
import { isErrorReply } from './errors.js'

/** Entries per command, unless they are large. */
const PAGE_ENTRIES = 500

/** The approximate size limit of a reply, in characters: 500 large entries could be 500 MB. */
const PAGE_CHARACTERS = 4 * 1024 * 1024

/** How long a blocking command may take beyond the time for which it blocks, in ms. */
const BLOCK_GRACE_MS = 2000

export interface TailOptions {
  readonly key: string
  readonly maxEntries: number
  readonly windowBytes: number
  readonly blockMs: number
  readonly timeout: number
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  /** Appends a mark: an entry that nobody receives. */
  readonly mark: (connection: RedisConnection) => Promise<void>
}

interface Waiter {
  readonly id: string
  readonly resolve: (entryId: string) => void
  readonly reject: (error: unknown) => void
}

export class Tail {
  readonly #options: TailOptions
  /** The last row that was read, foreign or not; undefined before the first window. */
  #last: Row | undefined
  #lastEntryId = ''
  /** The ids of the newest entries by nonce, to skip entries that were appended twice. */
  #ids = new Map<string, string>()
  #foreign = 0
  /** A lower bound of how many rows were ever added; Redis 7 counts them (`entries-added`). */
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

  /** Resolves to the id of the last entry once every row up to this row id was read. */
  whenRead(id: string): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ id, resolve, reject })
      this.#settleWaiters()
    })
  }

  /** Rejects all calls of `whenRead`, because the connection was lost. */
  rejectWaiters(error: unknown): void {
    for (const { reject } of this.#waiters.splice(0)) reject(error)
  }

  async follow(connection: RedisConnection, onHealthy: () => void): Promise<never> {
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

  /** Always a row id from a reply of Redis, never input of a client. */
  get #cursor(): string {
    return (this.#last as Row)[0]
  }

  async #read(connection: RedisConnection): Promise<boolean> {
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
      // Set before the sink is called: if the sink throws, it must not receive these entries again.
      this.#last = rows.at(-1) as Row
      const entries = this.#newEntries(rows, 1)
      if (entries.length > 0) this.#options.sink.append(entries)
      this.#settleWaiters()
    }
    return rows.length < count
  }

  /** The entries in these rows that are not foreign and were not delivered before. */
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

  /** Reads the whole window and resets the sink with it. */
  async #readWindow(
    connection: RedisConnection,
    reason: 'boot' | 'trimmed' | 'replaced',
  ): Promise<void> {
    for (;;) {
      const info = await this.#info(connection)
      const rows = await this.#newest(connection)
      this.#ids = new Map()
      const entries = this.#newEntries(rows, 0)
      if (entries.length > 0) {
        // The count was read before the rows, so that rows added later are not counted twice.
        this.#added = Math.max(info?.added ?? 0, rows.length)
        this.#last = rows.at(-1) as Row
        this.#options.sink.reset(entries, reason)
        // The rows that they wait for may not exist in this window.
        for (const { resolve } of this.#waiters.splice(0)) resolve(this.#lastEntryId)
        return
      }
      // Append a mark, so that clients have a cursor before the first event. Other processes may do the
      // same at the same time, which is harmless.
      await this.#options.mark(connection)
    }
  }

  /** The newest rows in log order, read backwards until the window is full. */
  async #newest(connection: RedisConnection): Promise<Row[]> {
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
        // The newest row is always kept, however large it is.
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

  /** Sizes the next page so that it stays within the limit if its rows are like these. */
  #fitPage(rows: readonly Row[]): void {
    if (rows.length === 0) return
    let size = 1
    for (const row of rows) size += sizeOf(row)
    this.#page = Math.max(
      1,
      Math.min(PAGE_ENTRIES, Math.floor((PAGE_CHARACTERS * rows.length) / size)),
    )
  }

  /** Why the last row is gone: the same stream was trimmed, or another one took its place. */
  async #lossReason(
    connection: RedisConnection,
    first: Row | undefined,
  ): Promise<'trimmed' | 'replaced'> {
    const { maxEntries } = this.#options
    // The row has the same id but different content.
    if (first?.[0] === this.#cursor) return 'replaced'
    const info = await this.#info(connection)
    if (info === undefined) return 'replaced'
    const order = compareRowIds(info.lastId, this.#cursor)
    if (order <= 0) return order === 0 ? 'trimmed' : 'replaced'
    if (info.added !== undefined) return info.added >= this.#added ? 'trimmed' : 'replaced'
    // Before Redis 7, guess by length: an emptied stream is shorter than the length it is trimmed to.
    return info.length >= maxEntries ? 'trimmed' : 'replaced'
  }

  /** Undefined if the stream does not exist or XINFO is not permitted. */
  async #info(connection: RedisConnection) {
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
