/**
 * Waiting for a lock that another connection holds. SQLite can wait by itself, but the whole process would stand
 * still meanwhile, and for good if the lock is held by a transaction of this very process.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { randomBetween } from '../lib/random.js'
import { isBusy } from './errors.js'

/** Between two attempts, in ms. SQLite has no queue: whoever asks more often gets the lock sooner. */
const RETRY_MS: readonly [number, number] = [1, 5]

/** Runs the statement until it finds no lock, for so many milliseconds. Then it rejects with SQLite's error. */
export async function whenFree<Result>(timeout: number, run: () => Result): Promise<Result> {
  const start = performance.now()
  for (;;) {
    try {
      return run()
    } catch (error) {
      if (!isBusy(error) || performance.now() - start > timeout) throw error
    }
    await pause(randomBetween(RETRY_MS))
  }
}
