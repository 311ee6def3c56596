// @ts-check
// `require('koa-sse-pool/compat')` is the factory itself, with `.default` and `.sse`. No bundler
// writes that for a module that has named exports too, so it is written after the build.
import { appendFile, readFile, writeFile } from 'node:fs/promises'

const dist = new URL('../dist/', import.meta.url)
const types = new URL('compat.d.cts', dist)

const source = await readFile(types, 'utf8')
const [list, names] = source.match(/^export \{(.+)\};$/m) ?? []
const factory = names?.match(/([\w$]+) as default/)?.[1]
if (!list || !factory) throw new Error('dist/compat.d.cts has no default export to work on')

await writeFile(
  types,
  source.replace(
    list,
    `declare namespace ${factory} {\n    export {${names} };\n}\nexport = ${factory};`,
  ),
)
await appendFile(
  new URL('compat.cjs', dist),
  '\nmodule.exports = Object.assign(exports.default, exports);\n',
)
