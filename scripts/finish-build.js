// @ts-check
// Post-processes the build for what the bundler cannot write; run by `npm run build`.
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { subpaths } from './subpaths.js'

const dist = new URL('../dist/', import.meta.url)

for (const { file } of subpaths) await markTypes(file)
await makeFactory('compat')

/**
 * The bundled declarations list classes that are exported as types only as if they were values.
 * Without `type`, `import { EventStream }` would compile and then fail at run time.
 *
 * @param {string} entry
 */
async function markTypes(entry) {
  const values = await import(new URL(`${entry}.js`, dist).href)
  for (const extension of ['d.ts', 'd.cts']) {
    await rewrite(`${entry}.${extension}`, /^export \{ (.+) \};$/m, names => {
      const marked = names.split(', ').map(name => {
        const exported = name.split(' as ').at(-1) ?? name
        return name.startsWith('type ') || exported in values ? name : `type ${name}`
      })
      return `export { ${marked.join(', ')} };`
    })
  }
}

/**
 * `require('koa-sse-pool/compat')` is the factory itself, with `.default` and `.sse`.
 *
 * @param {string} entry
 */
async function makeFactory(entry) {
  await rewrite(`${entry}.d.cts`, /^export \{ (.+) \};$/m, names => {
    const [, factory] = names.match(/([\w$]+) as default/) ?? []
    if (!factory) throw new Error(`dist/${entry}.d.cts has no default export to rewrite`)
    return `declare namespace ${factory} {\n    export { ${names} };\n}\nexport = ${factory};`
  })
  await appendFile(
    new URL(`${entry}.cjs`, dist),
    '\nmodule.exports = Object.assign(exports.default, exports);\n',
  )
}

/** @param {string} file @param {RegExp} pattern @param {(found: string) => string} replace */
async function rewrite(file, pattern, replace) {
  const url = new URL(file, dist)
  const source = await readFile(url, 'utf8')
  if (!pattern.test(source)) throw new Error(`dist/${file} has no list of exports to rewrite`)
  await writeFile(
    url,
    source.replace(pattern, (_, found) => replace(found)),
  )
}
