import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (file: string) => fileURLToPath(new URL(`./src/${file}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^koa-sse-pool$/, replacement: source('index.ts') },
      { find: /^koa-sse-pool\/compat$/, replacement: source('compat.ts') },
      { find: /^koa-sse-pool\/cluster$/, replacement: source('log/cluster.ts') },
      { find: /^koa-sse-pool\/nats$/, replacement: source('log/nats.ts') },
      { find: /^koa-sse-pool\/redis$/, replacement: source('log/redis.ts') },
      { find: /^koa-sse-pool\/testing$/, replacement: source('testing.ts') },
      { find: /^koa-sse-pool\/tickets$/, replacement: source('tickets.ts') },
    ],
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
          include: ['test/{stream,pump,resume,heartbeat}.test.ts', 'test/faults/*.test.ts'],
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
