import { cp } from 'node:fs/promises'
import { defineConfig, type Options } from 'tsup'
import { subpaths } from './scripts/subpaths.js'

const shared: Options = { dts: true, sourcemap: true, silent: true }
const isForBrowsers = ({ file }: { file: string }) => file === 'client'
const entryOf = (list: typeof subpaths) =>
  Object.fromEntries(list.map(({ file, source }) => [file, source]))

/** Pages load it, so it is minified, and complete: without a bundler there is no other package. */
const browser: Options = {
  ...shared,
  platform: 'browser',
  target: 'es2022',
  tsconfig: 'src/client/tsconfig.json',
  noExternal: ['eventsource-parser'],
  // Smaller than the minifier of esbuild by one in a hundred, which the limit of 5 KB needs.
  minify: 'terser',
  terserOptions: { ecma: 2020, compress: { passes: 3 }, mangle: { toplevel: true } },
}

export default defineConfig([
  {
    ...shared,
    entry: entryOf(subpaths.filter(subpath => !isForBrowsers(subpath))),
    format: ['esm', 'cjs'],
    target: 'node20',
    // All subpaths share one copy of the core, so `instanceof` holds between them. For CommonJS
    // `splitting` needs `treeshake`: without it tsup rewrites `?.` and `??` into slow helpers.
    splitting: true,
    treeshake: true,
    removeNodeProtocol: false,
    // For `import.meta.url` in CommonJS.
    shims: true,
    // The page of koa-sse-pool/inspector is served as it is.
    onSuccess: () => cp('src/inspector/inspector-page', 'dist/inspector-page', { recursive: true }),
  },
  { ...browser, entry: entryOf(subpaths.filter(isForBrowsers)), format: ['esm', 'cjs'] },
  {
    ...browser,
    entry: { client: 'src/client/global.ts' },
    format: 'iife',
    dts: false,
    sourcemap: false,
  },
])
