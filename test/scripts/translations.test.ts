import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { translations } from '../../scripts/translations.js'

test('every page has a Chinese one', () => {
  expect(translations().missing).toEqual([])
})

test('every Chinese page is up to date with its English page', () => {
  expect(translations().stale).toEqual([])
})

test('every Chinese page has the headings, code blocks, table rows and links of its English page', () => {
  expect(translations().different).toEqual([])
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
    expect(translations(root)).toMatchObject({
      stale: ['docs/pots.zh-CN.md: there is no docs/pots.md'],
      different: [],
    })
  })

  describe('a translation', () => {
    const ENGLISH = `# Cups

[中文](cups.zh-CN.md) [Tea](../README.md#green-tea) [here](#sizes) [plan](plan.svg) [a site](https://example.com/)

## Sizes

| a | b |
|---|---|
| 1 | 2 |

\`\`\`sh
# no heading
\`\`\`
`
    const CHINESE = `# 杯子

[这里](#大小) [茶](../README.zh-CN.md#绿茶) [English](cups.md) [图](plan.zh-CN.svg) [网站](https://example.com/)

## 大小

| 甲 | 乙 |
|---|---|
| 1 | 2 |

\`\`\`sh
# 不是标题
\`\`\`
`
    const differences = (chinese: string) => {
      write('docs/cups.zh-CN.md', chinese)
      return translations(root).different
    }

    beforeEach(() => {
      write('README.md', '# Tea\n\n## Green tea\n')
      write('README.zh-CN.md', '# 茶\n\n## 绿茶\n')
      write('docs/cups.md', ENGLISH)
      write('docs/plan.svg', '')
      write('docs/plan.zh-CN.svg', '')
    })

    test('may have its links in another order', () => {
      expect(differences(CHINESE)).toEqual([])
    })

    test('has the same parts with other line ends', () => {
      expect(differences(CHINESE.replaceAll('\n', '\r\n'))).toEqual([])
    })

    test.each([
      [
        'a heading of another level',
        '## 大小',
        '### 大小',
        ['its headings have the levels 0 1 3, not 0 1 2'],
      ],
      ['a table row less', '| 1 | 2 |\n', '', ['"大小" has 2 table rows, not 3']],
      ['no code block', /```[\s\S]*```\n/, '', ['"大小" has 0 code blocks, not 1']],
      [
        'a link without the anchor',
        '#绿茶',
        '',
        [
          'it has no link to ../README.zh-CN.md#绿茶',
          'its English page has no such link: ../README.zh-CN.md',
        ],
      ],
      [
        'a link to an English page',
        '../README.zh-CN.md#绿茶',
        '../README.md#green-tea',
        [
          'it has no link to ../README.zh-CN.md#绿茶',
          'its English page has no such link: ../README.md#green-tea',
        ],
      ],
      [
        'a link less',
        '[网站](https://example.com/)',
        '',
        ['it has no link to https://example.com/'],
      ],
      [
        'a link more',
        '[English]',
        '[茶](../README.zh-CN.md) [English]',
        ['its English page has no such link: ../README.zh-CN.md'],
      ],
    ])('with %s differs', (_, part, other, problems) => {
      expect(differences(CHINESE.replace(part, other))).toEqual(
        problems.map(problem => `docs/cups.zh-CN.md: ${problem}`),
      )
    })
  })
})
