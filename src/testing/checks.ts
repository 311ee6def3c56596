/** Conditions that the suites wait for, checked after each call of what they watch. */
import assert from 'node:assert/strict'

/** How long to wait for an engine to recover from a fault, in ms. */
export const WAIT_TIMEOUT_MS = 25_000

export class Checks {
  readonly #checks = new Set<() => void>()

  run(): void {
    for (const check of this.#checks) check()
  }

  /** Resolves as soon as the condition holds. @param message of the error if it never does. */
  until(condition: () => boolean, message: () => string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#checks.delete(check)
        reject(new assert.AssertionError({ message: message() }))
      }, WAIT_TIMEOUT_MS)
      const check = () => {
        if (!condition()) return
        clearTimeout(timer)
        this.#checks.delete(check)
        resolve()
      }
      this.#checks.add(check)
      check()
    })
  }
}
