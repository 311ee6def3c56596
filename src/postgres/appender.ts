/**
 * Stores what waits, in one transaction after the other: while one commits, further entries gather for the
 * next, so that a commit to disk is paid once per batch and not once per entry.
 */
import type { Entry } from '../log/log.js'
import { entryId, escapeText } from '../log/table.js'
import type { PgConnection } from './connection.js'
import { downError, errorKind, isBadEntry, isErrorReply, uncertainError } from './errors.js'
import type { Names } from './schema.js'

/** What one transaction stores at most. A longer one would make others wait for the lock. */
const BATCH_ENTRIES = 1000
const BATCH_CHARACTERS = 4 * 1024 * 1024

export type Appended = Omit<Entry, 'id'>

interface Append {
  readonly entry: Appended
  readonly resolve: (id: string) => void
  readonly reject: (error: unknown) => void
}

export interface AppenderOptions {
  readonly names: Names
  readonly connection: () => Promise<PgConnection>
  /** The events of committed transactions could not be moved into the log; no call rejects for that. */
  readonly onMoveFailed: (error: unknown) => void
  /** So many entries were stored. */
  readonly onStored: (count: number) => void
}

export class Appender {
  readonly #options: AppenderOptions
  #waiting: Append[] = []
  #hasOutbox = false
  #run: Promise<void> | undefined

  constructor(options: AppenderOptions) {
    this.#options = options
  }

  append(entry: Appended): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entry, resolve, reject })
      this.#start()
    })
  }

  /** Moves what committed transactions have put into the outbox. */
  moveOutbox(): void {
    this.#hasOutbox = true
    this.#start()
  }

  /** Resolves once nothing waits. */
  async settled(): Promise<void> {
    await this.#run
  }

  #start(): void {
    this.#run ??= this.#work()
  }

  async #work(): Promise<void> {
    // What is sent in the same turn belongs to the same batch.
    await null
    while (this.#waiting.length > 0 || this.#hasOutbox) {
      this.#hasOutbox = false
      await this.#store(this.#nextBatch())
    }
    // In the same turn as the last look: an append in between would wait for good.
    this.#run = undefined
  }

  #nextBatch(): Append[] {
    let size = 0
    let count = 0
    for (const { entry } of this.#waiting) {
      size += entry.frame.length + entry.target.length
      if (count === BATCH_ENTRIES || (count > 0 && size > BATCH_CHARACTERS)) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  async #store(batch: readonly Append[]): Promise<void> {
    const { names, connection, onMoveFailed, onStored } = this.#options
    let current: PgConnection
    try {
      current = await connection()
    } catch (error) {
      for (const { reject } of batch) reject(downError('not stored', error))
      return
    }
    try {
      const ids = await store(
        current,
        names,
        batch.map(({ entry }) => entry),
      )
      for (const { entry, resolve } of batch) resolve(ids.get(entry.nonce) as string)
      onStored(batch.length)
    } catch (error) {
      if (batch.length > 1 && isBadEntry(error)) {
        for (const append of batch) await this.#store([append])
        return
      }
      // This server became a standby. Reconnect: the address may lead to the new primary by now.
      if (errorKind(error) === '25006') current.destroy(error as Error)
      const isRefused = isErrorReply(error)
      if (batch.length === 0 && isRefused) onMoveFailed(error)
      for (const { reject } of batch) {
        reject(isRefused ? downError('not stored', error) : uncertainError(error))
      }
    }
  }
}

/** Stores entries and moves the outbox; returns the ids by nonce, also of entries that were stored before. */
export async function store(
  connection: PgConnection,
  { append }: Names,
  entries: readonly Appended[],
): Promise<Map<string, string>> {
  // An entry that is in the batch twice would be stored once, but its conflict costs a position.
  const unique = [...new Map(entries.map(entry => [entry.nonce, entry])).values()]
  const rows = await connection.query(`SELECT * FROM ${append}($1, $2, $3, $4)`, [
    unique.map(({ nonce }) => nonce),
    unique.map(({ target }) => escapeText(target)),
    unique.map(({ key }) => (key === undefined ? null : escapeText(key))),
    unique.map(({ frame }) => escapeText(frame)),
  ])
  const stored = rows as [nonce: string, position: string, generation: string][]
  return new Map(
    stored.map(([nonce, position, generation]) => [nonce, entryId(generation, position, nonce)]),
  )
}
