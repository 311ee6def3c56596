/** What package.json says of the subpaths: `exports` is the list, and the rest must agree with it. */
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { subpaths } from '../scripts/subpaths.js'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

test('each subpath has a source in the room of its name', () => {
  const missing = subpaths.filter(
    ({ source }) => !existsSync(new URL(`../${source}`, import.meta.url)),
  )
  expect(missing).toEqual([])
})

test('each subpath is exported as ES module and as CommonJS, each with its own types', () => {
  for (const { file, specifier } of subpaths) {
    const path = specifier === manifest.name ? '.' : `./${file}`
    expect(manifest.exports[path]).toEqual({
      import: { types: `./dist/${file}.d.ts`, default: `./dist/${file}.js` },
      require: { types: `./dist/${file}.d.cts`, default: `./dist/${file}.cjs` },
    })
  }
})

test('resolvers that do not read `exports` find the types of each subpath', () => {
  const files = subpaths.map(({ file }) => file).filter(file => file !== 'index')
  const expected = Object.fromEntries(files.map(file => [file, [`./dist/${file}.d.cts`]]))
  expect(manifest.typesVersions).toEqual({ '*': expected })
})
