/**
 * Stores what waits, one transaction per turn of the event loop: what is sent while the requests of a turn are
 * handled is committed together.
 */
import type { Entry } from '../log/log.js'
import { whenFree } from './busy.js'
import { CommitError, type Place, type SqliteConnection } from './connection.js'
import { downError, uncertainError } from './errors.js'

/** What one transaction stores at most. The process stands still for as long as it takes. */
const BATCH_ENTRIES = 1000
const BATCH_CHARACTERS = 1024 * 1024

interface Append {
  readonly entry: Omit<Entry, 'id'>
  readonly resolve: (place: Place) => void
  readonly reject: (error: unknown) => void
}

export interface AppenderOptions {
  readonly connection: () => Promise<SqliteConnection>
  /** How long to wait for the write lock, in ms. */
  readonly timeout: number
  /** So many entries were stored. */
  readonly onStored: (count: number) => void
}

export class Appender {
  readonly #options: AppenderOptions
  #waiting: Append[] = []
  #run: Promise<void> | undefined

  constructor(options: AppenderOptions) {
    this.#options = options
  }

  /** Resolves to the place of the entry, also if it was stored before. */
  append(entry: Omit<Entry, 'id'>): Promise<Place> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entry, resolve, reject })
      this.#run ??= this.#work()
    })
  }

  /** Resolves once nothing waits. */
  async settled(): Promise<void> {
    await this.#run
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      await new Promise(setImmediate)
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
    const { connection, timeout, onStored } = this.#options
    try {
      const current = await connection()
      const store = () => batch.map(({ entry }) => current.insert(entry))
      const places = await whenFree(timeout, () => current.transact(store))
      for (const [index, { resolve }] of batch.entries()) resolve(places[index] as Place)
    } catch (error) {
      const isUncertain = error instanceof CommitError
      const failure = isUncertain ? uncertainError(error.cause) : downError('not stored', error)
      for (const { reject } of batch) reject(failure)
      return
    }
    onStored(batch.length)
  }
}
