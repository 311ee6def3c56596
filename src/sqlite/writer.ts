/**
 * Writes what waits, one transaction per turn of the event loop: what is sent while the requests of a turn are
 * handled is committed together.
 */
import { whenFree } from './busy.js'
import type { SqliteConnection } from './connection.js'

/** What one transaction writes at most. The process stands still for as long as it takes. */
const BATCH_JOBS = 1000
const BATCH_CHARACTERS = 1024 * 1024

interface Job<Connected> {
  readonly size: number
  readonly write: (connection: Connected) => unknown
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
}

export interface WriterOptions<Connected> {
  readonly connection: () => Promise<Connected>
  /** How long to wait for the write lock, in ms. */
  readonly timeout: number
  /** A transaction with so many jobs was committed. */
  readonly onWritten: (jobs: number) => void
}

export class Writer<Connected extends Pick<SqliteConnection<unknown>, 'transact'>> {
  readonly #options: WriterOptions<Connected>
  #waiting: Job<Connected>[] = []
  #run: Promise<void> | undefined

  constructor(options: WriterOptions<Connected>) {
    this.#options = options
  }

  /**
   * Resolves to what the job returns, once its transaction has committed. Rejects with the error of SQLite, which is
   * a `CommitError` if it may have been written.
   *
   * @param size the number of characters that it writes, about
   */
  write<Result>(size: number, job: (connection: Connected) => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      const settle = resolve as (result: unknown) => void
      this.#waiting.push({ size, write: job, resolve: settle, reject })
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
      await this.#commit(this.#nextBatch())
    }
    // In the same turn as the last look: a job in between would wait for good.
    this.#run = undefined
  }

  #nextBatch(): Job<Connected>[] {
    let total = 0
    let count = 0
    for (const { size } of this.#waiting) {
      total += size
      if (count === BATCH_JOBS || (count > 0 && total > BATCH_CHARACTERS)) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  async #commit(batch: readonly Job<Connected>[]): Promise<void> {
    const { connection, timeout, onWritten } = this.#options
    try {
      const current = await connection()
      const writeAll = () => batch.map(({ write }) => write(current))
      const results = await whenFree(timeout, () => current.transact(writeAll))
      for (const [index, { resolve }] of batch.entries()) resolve(results[index])
    } catch (error) {
      for (const { reject } of batch) reject(error)
      return
    }
    onWritten(batch.length)
  }
}
