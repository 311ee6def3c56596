import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { translations } from '../../scripts/translations.js'

test('every Chinese page is up to date with its English page', () => {
  expect(translations().stale).toEqual([])
})

describe('of a repository', () => {
  let root: string
  const write = (page: string, text: string) => writeFileSync(join(root, page), text)

  beforeEach(() => {
    root = `${mkdtempSync(join(tmpdir(), 'koa-sse-pool-'))}/`
    mkdirSync(join(root, 'docs'))
    write('README.md', '# Tea\n')
    write('README.zh-CN.md', '# 茶\n')
    write('docs/cups.md', '# Cups\n')
    translations(root).accept('README.zh-CN.md')
  })
  afterEach(() => rmSync(root, { recursive: true }))

  test('a page without a translation is missing', () => {
    expect(translations(root)).toMatchObject({ missing: ['docs/cups.md'], stale: [] })
  })

  test('a translation is stale when its English page changes, until it is accepted', () => {
    write('README.md', '# Tea\n\nGreen.\n')
    expect(translations(root).stale).toEqual(['README.zh-CN.md: README.md has changed since'])
    translations(root).accept('README.zh-CN.md')
    expect(translations(root).stale).toEqual([])
    const text = readFileSync(join(root, 'README.zh-CN.md'), 'utf8')
    expect(text).toMatch(/^<!-- Translation of README\.md, text [0-9a-f]{12} -->\n# 茶\n$/)
  })

  test('other line ends are no change', () => {
    write('README.md', '# Tea\r\n')
    expect(translations(root).stale).toEqual([])
  })

  test.each([
    ['names no English page', '# 杯子\n', 'it does not begin with the comment'],
    [
      'names another page',
      '<!-- Translation of README.md, text 000000000000 -->\n',
      'it does not begin with the comment',
    ],
  ])('a translation that %s is stale', (_, text, problem) => {
    write('docs/cups.zh-CN.md', text)
    expect(translations(root).stale).toEqual([
      expect.stringContaining(`docs/cups.zh-CN.md: ${problem}`),
    ])
  })

  test('a translation of a page that is gone is stale', () => {
    write('docs/pots.zh-CN.md', '# 壶\n')
    expect(translations(root).stale).toEqual(['docs/pots.zh-CN.md: there is no docs/pots.md'])
  })
})
