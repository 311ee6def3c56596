// @ts-check
// `npm run size`: prints how many bytes the built package takes, minified and gzipped, with all that it
// imports of its own. Given the entry file of another package, it measures that one.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

// The bundler is tsup's own, so that there is no second version to keep.
const { build } = createRequire(import.meta.resolve('tsup'))('esbuild')

const [entry = fileURLToPath(new URL('../dist/index.js', import.meta.url))] = process.argv.slice(2)
const { outputFiles } = await build({
  entryPoints: [entry],
  bundle: true,
  format: 'esm',
  minify: true,
  platform: 'node',
  write: false,
})
const [{ contents }] = outputFiles
console.log(`${contents.length} bytes minified, ${gzipSync(contents).length} bytes gzipped`)
