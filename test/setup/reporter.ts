import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Reporter, TestModule, TestSpecification, Vitest } from 'vitest/node'
import { resultsFile } from '../../scripts/faults.js'

/**
 * Ends the run with one plain line that a script can read: `N passed, N failed`. The results of a run
 * of all tests are kept for `npm run faults`.
 */
export default class Tally implements Reporter {
  #vitest!: Vitest
  #isWhole = false
  #count = { passed: 0, failed: 0, skipped: 0, pending: 0 }

  onInit(vitest: Vitest): void {
    this.#vitest = vitest
    // Vitest itself writes after the last hook, so a line that must come last is written at exit.
    process.once('exit', code => {
      const { passed, skipped } = this.#count
      // A run can break without a failed test, such as by an error while a file is loaded.
      const failed = this.#count.failed || Number(code !== 0)
      const skippedToo = skipped ? `, ${skipped} skipped` : ''
      process.stdout.write(`${passed} passed, ${failed} failed${skippedToo}\n`)
    })
  }

  async onTestRunStart(specifications: readonly TestSpecification[]): Promise<void> {
    const { project, testNamePattern } = this.#vitest.config
    const all = await this.#vitest.globTestSpecifications()
    this.#isWhole =
      project.length === 0 && testNamePattern === undefined && specifications.length === all.length
    // A run that breaks off must not leave the results of the one before it.
    if (this.#isWhole) rmSync(resultsFile, { force: true })
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
    if (this.#isWhole) keep(modules)
  }
}

function keep(modules: readonly TestModule[]): void {
  const tests = modules.flatMap(module =>
    [...module.children.allTests()].map(test => ({
      name: test.fullName,
      project: test.project.name,
      state: test.result().state,
    })),
  )
  mkdirSync(dirname(resultsFile), { recursive: true })
  writeFileSync(resultsFile, JSON.stringify(tests))
}
