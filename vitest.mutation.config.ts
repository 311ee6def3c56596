import { basename, dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { subpaths } from './scripts/subpaths.js'

/** One failing test is enough, so those that find most, for the least time, come first. */
const ORDER = [
  'delivery/window.test.ts',
  'delivery/model.test.ts',
  'wire',
  'koa',
  'delivery',
  'lib',
  'log',
  'pool',
]

function place({ moduleId }: TestSpecification): number {
  const room = basename(dirname(moduleId))
  const file = ORDER.indexOf(`${room}/${basename(moduleId)}`)
  return file === -1 ? ORDER.indexOf(room) : file
}

class BestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.sort((a, b) => place(a) - place(b) || (a.moduleId < b.moduleId ? -1 : 1))
  }
}

export default defineConfig({
  resolve: {
    alias: subpaths.map(({ specifier, source }) => ({
      find: new RegExp(`^${specifier}$`),
      replacement: fileURLToPath(new URL(source, import.meta.url)),
    })),
  },
  test: {
    // A mutant that survives costs all of these, so tests that seldom find one are left out.
    include: [
      'test/{wire,delivery,koa,log,lib}/*.test.ts',
      'test/pool/{events,heartbeat,options,pool,remove,subscription}.test.ts',
    ],
    // To load all modules for each file would take longer than the tests.
    isolate: false,
    // A test that a mutant keeps waiting has found it.
    testTimeout: 8_000,
    hookTimeout: 8_000,
    expect: { poll: { timeout: 5_000 } },
    env: { MODEL_RUNS: '200', MODEL_SEED: '1' },
    sequence: { sequencer: BestFirst },
  },
})
