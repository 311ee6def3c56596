/**
 * Appends to runs, one statement after the other: while one commits, further appends gather for the next, so that a
 * commit to disk is paid once per batch and not once per run.
 */
import { isBadEntry } from './errors.js'

/** What one statement appends at most. A longer one would lock many runs for long. */
const BATCH_CALLS = 500
const BATCH_ENTRIES = 5000
const BATCH_CHARACTERS = 4 * 1024 * 1024

export interface RunCall {
  /** What the function of the database gets besides the entries. */
  readonly fields: object
  readonly texts: readonly string[]
  readonly lengths: readonly number[]
  readonly resolve: (reply: string) => void
  readonly reject: (error: unknown) => void
}

export class RunAppender {
  readonly #store: (calls: readonly RunCall[]) => Promise<void>
  #waiting: RunCall[] = []
  #isWorking = false

  /** @param store stores a batch and resolves its calls, or rejects */
  constructor(store: (calls: readonly RunCall[]) => Promise<void>) {
    this.#store = store
  }

  append(call: Omit<RunCall, 'resolve' | 'reject'>): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...call, resolve, reject })
      if (!this.#isWorking) void this.#work()
    })
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    // What is appended in the same turn belongs to the same batch.
    await null
    while (this.#waiting.length > 0) await this.#tryToStore(this.#nextBatch())
    // In the same turn as the last look: an append in between would wait for good.
    this.#isWorking = false
  }

  #nextBatch(): RunCall[] {
    let size = 0
    let entries = 0
    let count = 0
    for (const { lengths } of this.#waiting) {
      for (const length of lengths) size += length
      entries += lengths.length
      const isFull = count === BATCH_CALLS || entries > BATCH_ENTRIES || size > BATCH_CHARACTERS
      if (count > 0 && isFull) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  async #tryToStore(batch: readonly RunCall[]): Promise<void> {
    try {
      await this.#store(batch)
    } catch (error) {
      // One bad append must not fail the others. PostgreSQL has rolled all of them back.
      if (batch.length > 1 && isBadEntry((error as Error).cause)) {
        for (const call of batch) await this.#tryToStore([call])
        return
      }
      for (const { reject } of batch) reject(error)
    }
  }
}
