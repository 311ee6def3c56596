/** An open file, with the statements that the log runs on it. */
import type { Entry } from '../log/log.js'
import { countTables, SqliteConnection } from './connection.js'
import type { Row, Statement } from './driver.js'
import type { ResolvedOptions } from './options.js'
import {
  createTables,
  deleteOldest,
  findGeneration,
  findNewest,
  findNonce,
  findStart,
  insertEntry,
  type Names,
  readPage,
} from './schema.js'
import { stored } from './text.js'

export interface EntryRow {
  readonly position: number
  readonly nonce: string
  readonly target: string
  readonly key: string | null
  readonly frame: string
}

/** Where an entry was stored. */
export interface Place {
  readonly generation: string
  readonly position: number
  readonly nonce: string
}

/** The newest entry. */
export interface Newest {
  readonly generation: string
  /** Null if the table is empty. */
  readonly position: number | null
  readonly nonce: string
  readonly total: number
}

export class LogConnection extends SqliteConnection<Names> {
  protected override readonly creation = createTables
  readonly #options: ResolvedOptions

  constructor(options: ResolvedOptions, names: Names) {
    super(options, names)
    this.#options = options
  }

  newest(): Newest | undefined {
    return this.prepared(findNewest).get() as unknown as Newest | undefined
  }

  /** The first position of the window that ends with this entry. */
  start({ position, total }: Newest): number {
    const { maxEntries, windowBytes } = this.#options
    const values = { position, total, maxEntries, windowBytes }
    return this.prepared(findStart).get(values)?.position as number
  }

  page(from: number, count: number): EntryRow[] {
    return this.prepared(readPage).all(from, count) as unknown as EntryRow[]
  }

  /** Stores an entry; returns its place, also if it was stored before. */
  insert(entry: Omit<Entry, 'id'>): Place {
    const find = () => this.prepared(findNonce)
    return insertInto(this.prepared(insertEntry), find, entry)
  }

  /** Deletes old entries, looking at this many at most. Returns how many it has deleted. */
  deleteOldest(count: number): number {
    const { maxEntries, maxBytes, maxAge } = this.#options
    const newest = this.newest()
    if (newest?.position == null) return 0
    const { position, total } = newest
    const before = maxAge === undefined ? 0 : Date.now() - maxAge
    const values = { count, position, total, maxEntries, maxBytes, before }
    return Number(this.prepared(deleteOldest).run(values).changes)
  }

  protected override hasTables(): boolean {
    const hasBoth = this.prepared(countBoth).get()?.count === 2
    return hasBoth && this.prepared(findGeneration).get() !== undefined
  }
}

const countBoth = ({ log, state }: Names) => countTables([log, state])

export function insertInto(
  insert: Statement,
  find: () => Statement,
  { nonce, target, key, frame }: Omit<Entry, 'id'>,
): Place {
  const texts = [stored(target), key === undefined ? null : stored(key), stored(frame)]
  let size = 64
  for (const text of texts) if (text !== null) size += Buffer.byteLength(text)
  const row = insert.get(nonce, ...texts, size, Date.now()) ?? find().get(nonce)
  return row as unknown as Place & Row
}
