import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { subpaths } from './scripts/subpaths.js'

export default defineConfig({
  resolve: {
    alias: subpaths.map(({ specifier, source }) => ({
      find: new RegExp(`^${specifier}$`),
      replacement: fileURLToPath(new URL(source, import.meta.url)),
    })),
  },
  test: {
    pool: 'forks',
    reporters: ['default', './test/setup/reporter.ts'],
    // In groups, one after the other: browsers and eight processes would slow the unit tests down.
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/{chaos,dist,e2e,proxies}/**'],
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
          name: 'lean',
          // Once more with lean streams, where the connection matters.
          include: [
            'test/stream/stream.test.ts',
            'test/delivery/{pump,resume}.test.ts',
            'test/pool/heartbeat.test.ts',
            'test/faults/*.test.ts',
          ],
          env: { TEST_LEAN: 'true' },
          setupFiles: 'test/setup/lean.ts',
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'dist',
          include: ['test/dist/*.test.ts'],
          testTimeout: 30_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          name: 'proxies',
          include: ['test/proxies/*.test.ts'],
          testTimeout: 15_000,
          // They mostly wait, for timeouts and reconnects.
          maxWorkers: 4,
          sequence: { groupOrder: 3 },
        },
      },
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['test/e2e/*.test.ts'],
          globalSetup: './test/e2e/display.ts',
          testTimeout: 30_000,
          hookTimeout: 60_000,
          // They mostly wait, for reconnects; but every worker has a browser or two.
          maxWorkers: 2,
          sequence: { groupOrder: 4 },
        },
      },
      {
        extends: true,
        test: {
          name: 'chaos',
          include: ['test/chaos/*.test.ts'],
          testTimeout: 180_000,
          sequence: { groupOrder: 5 },
        },
      },
    ],
  },
})
