import type { Reporter, TestModule } from 'vitest/node'

/** Ends the run with one plain line that a script can read: `N passed, N failed`. */
export default class Tally implements Reporter {
  #count = { passed: 0, failed: 0, skipped: 0, pending: 0 }

  onInit(): void {
    // Vitest still writes after the last hook, so only the exit is late enough for a last line.
    process.once('exit', code => {
      const { passed, skipped } = this.#count
      // Not every broken run has a failed test to show for it.
      const failed = this.#count.failed || Number(code !== 0)
      const skippedToo = skipped ? `, ${skipped} skipped` : ''
      process.stdout.write(`${passed} passed, ${failed} failed${skippedToo}\n`)
    })
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      for (const suite of [module, ...module.children.allSuites()]) {
        if (suite.errors().length > 0) count.failed++
      }
      for (const test of module.children.allTests()) count[test.result().state]++
    }
    count.failed += count.pending
    this.#count = count
  }
}
