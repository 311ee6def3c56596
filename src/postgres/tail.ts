/**
 * Follows the table: reads the window once, then each new entry.
 *
 * Every read starts at the last row that was read, inclusive. If that row is unchanged, nothing in between
 * was lost, because only the oldest rows are deleted. A NOTIFY only says that there is something to read; if
 * it is lost, the next poll reads the same rows.
 */
import type { Entry, LogSink } from '../log/log.js'
import type { PgConnection } from './connection.js'
import { COLUMNS, type Row, toEntry } from './entry.js'
import type { Names } from './schema.js'

/** Entries per query, unless they are large. */
const PAGE_ENTRIES = 1000

/** The approximate size limit of a reply, in characters: 1000 large entries could be a gigabyte. */
const PAGE_CHARACTERS = 4 * 1024 * 1024

export interface TailOptions {
  readonly names: Names
  readonly maxEntries: number
  readonly windowBytes: number
  readonly pollMs: number
  readonly sink: Pick<LogSink, 'reset' | 'append'>
  /** Appends a mark: an entry that nobody receives. */
  readonly mark: (connection: PgConnection) => Promise<void>
  /** There are committed events in the outbox. */
  readonly onOutbox: () => void
}

export class Tail {
  readonly #options: TailOptions
  readonly #readPage: string
  #generation = ''
  /** The last row that was read; undefined before the first window. */
  #last: Row | undefined
  #page = 50

  constructor(options: TailOptions) {
    this.#options = options
    const { log, outbox } = options.names
    this.#readPage = `SELECT ${COLUMNS}, EXISTS (SELECT FROM ${outbox})
      FROM ${log} WHERE position >= $1 ORDER BY position LIMIT $2`
  }

  async follow(connection: PgConnection, onHealthy: () => void): Promise<never> {
    const { names, pollMs } = this.#options
    let hasRung = false
    let wake = () => {}
    connection.onNotification(() => {
      hasRung = true
      wake()
    })
    void connection.closed.then(() => wake())
    await connection.query(`LISTEN "${names.channel}"`)
    if (this.#last === undefined) await this.#readWindow(connection, 'boot')
    for (;;) {
      hasRung = false
      const isAtEnd = await this.#read(connection)
      onHealthy()
      if (!isAtEnd || hasRung) continue
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, pollMs)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  async #read(connection: PgConnection): Promise<boolean> {
    const last = this.#last as Row
    const count = this.#page + 1
    const rows = await this.#rows(connection, last[0], count)
    if (!isSameRow(rows[0], last)) {
      await this.#readWindow(connection, rows[0]?.[0] === last[0] ? 'replaced' : 'trimmed')
      return false
    }
    if (rows.length > 1) {
      // Set before the sink is called: if the sink throws, it must not receive these entries again.
      this.#last = rows.at(-1) as Row
      this.#options.sink.append(this.#entries(rows.slice(1)))
    }
    return rows.length < count
  }

  async #rows(connection: PgConnection, from: string, count: number): Promise<Row[]> {
    const rows = await connection.query(this.#readPage, [from, count])
    if (rows[0]?.[5] === true) this.#options.onOutbox()
    this.#fitPage(rows as unknown as Row[])
    return rows as unknown as Row[]
  }

  #entries(rows: readonly Row[]): Entry[] {
    return rows.map(row => toEntry(this.#generation, row))
  }

  /** Reads the whole window and resets the sink with it. */
  async #readWindow(
    connection: PgConnection,
    reason: 'boot' | 'trimmed' | 'replaced',
  ): Promise<void> {
    const { names, maxEntries, windowBytes, mark, sink } = this.#options
    const findStart = `SELECT s.generation, n.position, (
        SELECT e.position FROM ${names.log} AS e
        WHERE e.position > n.position - $1
          AND (e.total > n.total - $2 OR e.position = n.position)
        ORDER BY e.position LIMIT 1
      ) FROM ${names.state} AS s LEFT JOIN LATERAL (
        SELECT position, total FROM ${names.log} ORDER BY position DESC LIMIT 1
      ) AS n ON true`
    for (;;) {
      const [found] = await connection.query(findStart, [maxEntries, windowBytes])
      const [generation, newest, start] = (found ?? []) as [string?, string?, string?]
      if (generation === undefined) {
        // Somebody emptied all tables.
        await connection.query(`INSERT INTO ${names.state} DEFAULT VALUES ON CONFLICT DO NOTHING`)
        continue
      }
      // A mark, so that clients have a cursor before the first event.
      if (!newest || !start) {
        await mark(connection)
        continue
      }
      const rows = await this.#newest(connection, start)
      if (rows === undefined) continue
      const last = this.#last
      // Retention would have deleted everything up to the last row. A table that has older ones and not that one is
      // an older state, such as after a restore, or a failover that lost commits.
      const isOlder = last !== undefined && Number((rows[0] as Row)[0]) <= Number(last[0])
      const isOther = generation !== this.#generation || isOlder
      this.#generation = generation
      this.#last = rows.at(-1) as Row
      sink.reset(this.#entries(rows), reason !== 'boot' && isOther ? 'replaced' : reason)
      return
    }
  }

  /** All rows from a position on; undefined if some were deleted meanwhile. */
  async #newest(connection: PgConnection, start: string): Promise<Row[] | undefined> {
    const all: Row[] = []
    for (;;) {
      const count = this.#page + 1
      const rows = await this.#rows(connection, all.at(-1)?.[0] ?? start, count)
      const last = all.at(-1)
      if (last !== undefined && !isSameRow(rows[0], last)) return undefined
      if (rows.length === 0) return undefined
      for (let index = last === undefined ? 0 : 1; index < rows.length; index++) {
        all.push(rows[index] as Row)
      }
      if (rows.length < count) return all
    }
  }

  /** Sizes the next page so that it stays within the limit if its rows are like these. */
  #fitPage(rows: readonly Row[]): void {
    if (rows.length === 0) return
    let size = 1
    for (const [, , target, , frame] of rows) size += target.length + frame.length
    this.#page = Math.max(
      1,
      Math.min(PAGE_ENTRIES, Math.floor((PAGE_CHARACTERS * rows.length) / size)),
    )
  }
}

function isSameRow(a: Row | undefined, b: Row): boolean {
  return a !== undefined && a[0] === b[0] && a[1] === b[1]
}
