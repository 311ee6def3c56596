/** The subpaths in package.json: `exports` is the list, and the other fields must agree with it. */
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { subpaths } from '../scripts/subpaths.js'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

test('every subpath has a source in the folder of its name', () => {
  const missing = subpaths.filter(
    ({ source }) => !existsSync(new URL(`../${source}`, import.meta.url)),
  )
  expect(missing).toEqual([])
})

/** `require('koa-sse-pool/compat')` is a function, which the bundler does not write: see require/. */
const forRequire = (file: string) => (file === 'compat' ? './require/compat' : `./dist/${file}`)

test('each subpath is exported as ES module and as CommonJS, each with its own types', () => {
  for (const { file, specifier } of subpaths) {
    const path = specifier === manifest.name ? '.' : `./${file}`
    const required = forRequire(file)
    expect(manifest.exports[path]).toEqual({
      import: { types: `./dist/${file}.d.ts`, default: `./dist/${file}.js` },
      require: { types: `${required}.d.cts`, default: `${required}.cjs` },
    })
  }
})

test('resolvers that ignore `exports` find the types of every subpath', () => {
  const files = subpaths.map(({ file }) => file).filter(file => file !== 'index')
  const expected = Object.fromEntries(files.map(file => [file, [`${forRequire(file)}.d.cts`]]))
  expect(manifest.typesVersions).toEqual({ '*': expected })
})
