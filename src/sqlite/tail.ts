/**
 * Reads the window once, then each new entry.
 *
 * Every read starts at the last row that was read, inclusive. If that row is unchanged, nothing in between was lost,
 * because only the oldest rows are deleted.
 */
import type { Entry, LogSink } from '../log/log.js'
import { entryId, unescapeText } from '../log/table.js'
import { whenFree } from './busy.js'
import type { EntryRow, LogConnection, Newest } from './log-connection.js'

/** Rows per read, unless they are large: other requests have to wait for as long as one takes. */
const PAGE_ENTRIES = 1000
const PAGE_CHARACTERS = 1024 * 1024

export interface TailOptions {
  /** How long to wait for a lock, in ms. */
  readonly timeout: number
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  /** Appends a mark, an entry that nobody receives, if the table is empty. */
  readonly mark: (connection: LogConnection) => Promise<void>
}

export class Tail {
  readonly #options: TailOptions
  #generation = ''
  /** The last row that was read; undefined before the first window. */
  #last: EntryRow | undefined
  #page = 50

  constructor(options: TailOptions) {
    this.#options = options
  }

  /** Reads the window if it was not read yet. */
  async open(connection: LogConnection): Promise<void> {
    if (this.#last === undefined) await this.#readWindow(connection, 'boot')
  }

  /** Reads a page of what is new; resolves to whether that was all. */
  async read(connection: LogConnection): Promise<boolean> {
    const last = this.#last as EntryRow
    const count = this.#page + 1
    const rows = await this.#rows(connection, last.position, count)
    if (!isSameRow(rows[0], last)) {
      const isOther = rows[0]?.position === last.position
      await this.#readWindow(connection, isOther ? 'replaced' : 'trimmed')
      return false
    }
    if (rows.length > 1) {
      // Set before the sink is called: if the sink throws, it must not receive these entries again.
      this.#last = rows.at(-1)
      this.#options.sink.append(this.#entries(rows.slice(1)))
    }
    return rows.length < count
  }

  async #rows(connection: LogConnection, from: number, count: number): Promise<EntryRow[]> {
    const rows = await this.#free(() => connection.page(from, count))
    this.#fitPage(rows)
    return rows
  }

  #free<Result>(run: () => Result): Promise<Result> {
    return whenFree(this.#options.timeout, run)
  }

  #entries(rows: readonly EntryRow[]): Entry[] {
    return rows.map(({ position, nonce, target, key, frame }) => {
      const id = entryId(this.#generation, position, nonce)
      const entry = { id, nonce, target: unescapeText(target), frame: unescapeText(frame) }
      return key === null ? entry : { ...entry, key: unescapeText(key) }
    })
  }

  /** Reads the whole window and resets the sink with it. */
  async #readWindow(
    connection: LogConnection,
    reason: 'boot' | 'trimmed' | 'replaced',
  ): Promise<void> {
    const { mark, sink } = this.#options
    for (;;) {
      const newest = await this.#free(() => connection.newest())
      if (newest === undefined) throw new Error('the row of the generation was deleted')
      // A mark, so that clients have a cursor before the first event.
      if (newest.position === null) {
        await mark(connection)
        continue
      }
      const rows = await this.#newestRows(connection, newest)
      if (rows === undefined) continue
      const last = this.#last
      const { generation } = newest
      // Retention would have deleted everything up to the last row. A table that has older ones and not that one is
      // an older state, such as after a restore.
      const isOlder = last !== undefined && (rows[0] as EntryRow).position <= last.position
      const isOther = generation !== this.#generation || isOlder
      this.#generation = generation
      this.#last = rows.at(-1)
      sink.reset(this.#entries(rows), reason !== 'boot' && isOther ? 'replaced' : reason)
      return
    }
  }

  /** All rows of the window; undefined if some were deleted meanwhile. */
  async #newestRows(connection: LogConnection, newest: Newest): Promise<EntryRow[] | undefined> {
    const all: EntryRow[] = []
    let from = await this.#free(() => connection.start(newest))
    for (;;) {
      const count = this.#page + 1
      const rows = await this.#rows(connection, from, count)
      const last = all.at(-1)
      if (last !== undefined && !isSameRow(rows[0], last)) return undefined
      if (rows.length === 0) return undefined
      for (const row of last === undefined ? rows : rows.slice(1)) all.push(row)
      if (rows.length < count) return all
      from = rows.at(-1)?.position as number
      await new Promise(setImmediate)
    }
  }

  /** Sizes the next page so that it stays within the limit if its rows are like these. */
  #fitPage(rows: readonly EntryRow[]): void {
    if (rows.length === 0) return
    let size = 1
    for (const { target, frame } of rows) size += target.length + frame.length
    const fitting = Math.floor((PAGE_CHARACTERS * rows.length) / size)
    this.#page = Math.max(1, Math.min(PAGE_ENTRIES, fitting))
  }
}

function isSameRow(a: EntryRow | undefined, b: EntryRow): boolean {
  return a !== undefined && a.position === b.position && a.nonce === b.nonce
}
