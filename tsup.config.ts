import { defineConfig } from 'tsup'

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    compat: 'src/compat.ts',
    cluster: 'src/log/cluster.ts',
    nats: 'src/log/nats.ts',
    redis: 'src/log/redis.ts',
    testing: 'src/testing.ts',
    tickets: 'src/tickets.ts',
  },
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  clean: true,
  // Both entries share one copy of the core, so `instanceof` holds between them. For CommonJS
  // `splitting` needs `treeshake`: without it tsup rewrites `?.` and `??` into slow helpers.
  splitting: true,
  treeshake: true,
  removeNodeProtocol: false,
  silent: true,
})
