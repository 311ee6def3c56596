import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { subpaths } from './scripts/subpaths.js'
import LongestFirst from './test/setup/sequencer.js'

/** Tests that mostly wait for servers and processes of their own. */
const ENGINES = [
  'test/{cluster,nats,postgres,redis,sqlite,suites}/*.test.ts',
  'test/runs/durable-*.test.ts',
]

export default defineConfig({
  resolve: {
    alias: subpaths.map(({ specifier, source }) => ({
      find: new RegExp(`^${specifier}$`),
      replacement: fileURLToPath(new URL(source, import.meta.url)),
    })),
  },
  test: {
    pool: 'forks',
    sequence: { sequencer: LongestFirst },
    reporters: ['default', './test/setup/reporter.ts'],
    // The limits are there for tests that hang. Many times what a test takes, so that a loaded machine
    // fails none.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
    // Groups run one after the other: browsers and eight processes would slow the unit tests down.
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          // By default vitest leaves one of two cores to itself, which then mostly waits.
          maxWorkers: 2,
          include: ['test/**/*.test.ts'],
          exclude: ['test/{chaos,dist,e2e,proxies}/**', ...ENGINES],
          typecheck: {
            enabled: true,
            include: ['test/**/*.test-d.ts'],
            tsconfig: './test/tsconfig.json',
          },
        },
      },
      {
        extends: true,
        test: {
          name: 'engines',
          include: ENGINES,
          // They mostly wait for Redis, NATS and time limits.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'lean',
          // The tests in which the connection matters run a second time with lean streams.
          include: [
            'test/stream/stream.test.ts',
            'test/delivery/{pump,resume}.test.ts',
            'test/pool/heartbeat.test.ts',
            'test/faults/*.test.ts',
          ],
          env: { TEST_LEAN: 'true' },
          setupFiles: 'test/setup/lean.ts',
          // Beside the engines, which mostly wait.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'dist',
          include: ['test/dist/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          name: 'proxies',
          include: ['test/proxies/*.test.ts'],
          testTimeout: 60_000,
          // They mostly wait for timeouts and reconnects.
          maxWorkers: 4,
          sequence: { groupOrder: 3 },
        },
      },
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['test/e2e/*.test.ts'],
          // Measures by time what other clients do not do, so it runs only for its table: `npm run controls`.
          exclude: process.env.CONTROLS ? [] : ['test/e2e/client-controls.test.ts'],
          globalSetup: './test/e2e/display.ts',
          testTimeout: 90_000,
          hookTimeout: 90_000,
          // They mostly wait for reconnects, but every worker runs one or two browsers.
          maxWorkers: 3,
          sequence: { groupOrder: 4 },
        },
      },
      {
        extends: true,
        test: {
          name: 'chaos',
          include: ['test/chaos/*.test.ts'],
          testTimeout: 300_000,
          // Beside the proxies, which mostly wait.
          maxWorkers: 4,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
