/** The packages of the examples: the list, their imports and their READMEs say the same. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { examples } from '../../scripts/examples.js'

const FOLDER = new URL('../../example/', import.meta.url)
const read = (path: string) => readFileSync(new URL(path, FOLDER), 'utf8')
const names = readdirSync(FOLDER).filter(name => name !== 'shared')

test('every example can be run by its name', () => {
  expect(Object.keys(examples)).toEqual(names)
})

test.each(names)('the packages of %s are those that its files import', name => {
  const files = readdirSync(new URL(name, FOLDER)).filter(file => file.endsWith('.js'))
  const found = files.flatMap(file => importsOf(read(`${name}/${file}`)))
  const packages = found.filter(specifier => !/^(node:|\.|koa-sse-pool)/.test(specifier))
  // koa-sse-pool/tickets loads jose itself.
  if (found.includes('koa-sse-pool/tickets')) packages.push('jose')
  expect([...new Set(packages)].sort()).toEqual(examples[name]?.packages)
})

// What only some ways to run the example need, its README names where it describes them.
const optional: Record<string, string[]> = { chat: ['redis'], tokens: ['redis'] }

test.each(names)('the README of %s installs the same packages', name => {
  const [, list = ''] = /`npm install (koa [^`]+)`/.exec(read(`${name}/README.md`)) ?? []
  const installed = list.split(' ').filter(each => each !== 'koa-sse-pool')
  const expected = examples[name]?.packages.filter(each => !optional[name]?.includes(each))
  expect(installed.sort()).toEqual(expected)
})

/** Without those in comments, which name types only. */
function importsOf(source: string): string[] {
  const code = source.replace(/\/\*.*?\*\//gs, '')
  const patterns = [
    /^(?:import|export) (?:[^'\n]* from )?'([^']+)'/gm,
    /await import\('([^']+)'\)/g,
    /import\.meta\.resolve\('([^']+)'\)/g,
  ]
  return patterns.flatMap(pattern => [...code.matchAll(pattern)].map(([, name]) => name as string))
}
