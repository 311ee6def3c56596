/** The Node that runs the tests may have no SQLite, so the tests of the log and of runs also run on those that do. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { nodePath, nodes } from '../setup/needs.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const FILES = ['test/suites/sqlite.test.ts', 'test/suites/sqlite-runs.test.ts', 'test/sqlite/']

test.each(nodes.filter(major => major >= 22))(
  'SQLite passes its tests on Node %i, with node:sqlite',
  { timeout: 240_000 },
  async major => {
    const env = { ...process.env }
    // Of the run that this test belongs to.
    for (const name in env) if (name.startsWith('VITEST')) delete env[name]
    const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'engines', ...FILES]
    const run = promisify(execFile)(nodePath(major), args, { cwd: root, env })
    const { stdout } = await run.catch(error => {
      throw new Error(`${error.stdout}\n${error.stderr}`)
    })
    expect(stdout).toMatch(/^1\d\d passed, 0 failed$/m)
  },
)
