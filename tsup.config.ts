import { defineConfig } from 'tsup'
import { subpaths } from './scripts/subpaths.js'

export default defineConfig({
  entry: Object.fromEntries(subpaths.map(({ file, source }) => [file, source])),
  format: ['esm', 'cjs'],
  target: 'node20',
  dts: true,
  sourcemap: true,
  clean: true,
  // All subpaths share one copy of the core, so `instanceof` holds between them. For CommonJS
  // `splitting` needs `treeshake`: without it tsup rewrites `?.` and `??` into slow helpers.
  splitting: true,
  treeshake: true,
  removeNodeProtocol: false,
  silent: true,
})
