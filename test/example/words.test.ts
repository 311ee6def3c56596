/** The texts of the examples' pages: both languages have all of them, and none is left over or missing. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const FOLDER = new URL('../../example/', import.meta.url)
const names = readdirSync(FOLDER).filter(name => name !== 'shared')

type Text = string | ((values: unknown) => string)
type Words = Record<'en' | 'zh', Record<string, Text>>

/** What a page says in the words of the client's status, which it gets at run time. */
const STATUSES = ['connecting', 'live', 'behind', 'offline', 'ended', 'refused']

async function wordsIn(path: string): Promise<Words> {
  return (await import(new URL(path, FOLDER).href)).words
}

/** The scripts and the HTML of a page, without its texts. */
function sourceOf(folder: string): string {
  const files = readdirSync(new URL(folder, FOLDER)).filter(name => /\.(js|html)$/.test(name))
  const own = files.filter(name => name !== 'words.js')
  return own.map(name => readFileSync(new URL(`${folder}${name}`, FOLDER), 'utf8')).join('\n')
}

const tables = [...names.map(name => `${name}/public/`), 'shared/']

describe.each(tables)('the texts of example/%s', folder => {
  // The title of the document is in the frame.
  const source = `${sourceOf(folder)}${folder === 'shared/' ? '' : 'data-t="page"'}`

  test('are the same in both languages, with the same values', async () => {
    const { en, zh } = await wordsIn(`${folder}words.js`)
    expect(Object.keys(zh)).toEqual(Object.keys(en))
    for (const [key, text] of Object.entries(en)) {
      expect(valuesOf(zh[key]), key).toEqual(valuesOf(text))
    }
  })

  test('are all used', async () => {
    const { en } = await wordsIn(`${folder}words.js`)
    const unused = Object.keys(en).filter(key => !isUsed(key, source))
    expect(unused).toEqual([])
  })

  test('are all there', async () => {
    const { en } = await wordsIn(`${folder}words.js`)
    const shared = await wordsIn('shared/words.js')
    const fixed = [
      ...source.matchAll(/data-t(?:-label)?="([^"$]+)"/g),
      ...source.matchAll(/\bsay\([^\n]*?, '([^']+)'/g),
      ...source.matchAll(/\bt\('([^']+)'/g),
    ].map(([, key]) => key as string)
    expect(fixed).not.toEqual([])
    const known = { ...shared.en, ...en, ...(folder === 'shared/' && { page: '' }) }
    expect(fixed.filter(key => !(key in known))).toEqual([])
  })
})

test.each(names)(
  'the HTML of example/%s has the English texts, for the moment before its scripts run',
  async name => {
    const { en } = await wordsIn(`${name}/public/words.js`)
    const html = readFileSync(new URL(`${name}/public/index.html`, FOLDER), 'utf8')
      // As language.js renders them.
      .replace(/<span data-value="(\w+)"><\/span>/g, '{$1}')
      .replace(/<code>([^<]+)<\/code>/g, '`$1`')
    const texts = [...html.matchAll(/<(\w+)[^>]*\bdata-t="([^"]+)"[^>]*>(.*?)<\/\1>/g)]
    expect(texts).not.toEqual([])
    for (const [, , key = '', text] of texts) expect(text, key).toBe(en[key])
    for (const [, label, key = ''] of html.matchAll(
      /aria-label="([^"]+)" data-t-label="([^"]+)"/g,
    )) {
      expect(label).toBe(en[key])
    }
  },
)

test('every example has a name and a description in the menu', async () => {
  const { en } = await wordsIn('shared/words.js')
  const inMenu = Object.keys(en).filter(key => key.startsWith('example.'))
  expect(inMenu).toEqual(names.map(name => `example.${name}`))
  for (const name of names) expect(en).toHaveProperty([`about.${name}`])
})

/** The names of the values that a text shows. What a function takes is written once, for both languages. */
function valuesOf(text: Text | undefined): string[] {
  if (typeof text === 'function') return ['a function']
  return [...(text ?? '').matchAll(/\{\w+\}|`[^`]+`/g)].map(([value]) => value).sort()
}

function isUsed(key: string, source: string): boolean {
  const quoted = [`'${key}'`, `data-t="${key}"`, `data-t-label="${key}"`]
  if (quoted.some(form => source.includes(form))) return true
  // As in `state.${state}`.
  const [, group] = /^(\w+\.)/.exec(key) ?? []
  if (group !== undefined) return source.includes(`${group}\${`)
  return STATUSES.includes(key) && source.includes("'status'")
}
