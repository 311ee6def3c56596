import { describe, expect, test } from 'vitest'
import { groups, linkOf, pages, titleOf } from '../../site/pages.js'
import { slugify } from '../../site/slugify.js'

const REPOSITORY = 'https://example.com/tea'

test('no two files are the same page', () => {
  const routes = pages.map(({ route }) => route)
  expect(routes.filter((route, index) => routes.indexOf(route) !== index)).toEqual([])
})

describe('a link', () => {
  test.each([
    ['recipes.md', 'docs/client.md', '/recipes.md'],
    ['../README.md#options', 'docs/client.md', '/readme.md#options'],
    ['docs/README.md#examples', 'README.md', '/contents.md#examples'],
    ['../example/progress', 'docs/README.md', '/examples/progress/index.md'],
    ['../../docs/runs.md', 'example/progress/README.md', '/runs.md'],
    ['docs/getting-started.zh-CN.md', 'README.zh-CN.md', '/zh/getting-started.md'],
    ['koa-sse-pool.redis.md#redislog', 'docs/api/README.md', '/api/redis.md#redislog'],
  ])('to %s in %s leads to the page %s', (href, source, page) => {
    expect(linkOf(href, source, REPOSITORY)).toBe(page)
  })

  test.each([
    ['../src/log/log.ts', 'docs/engines.md', 'blob/main/src/log/log.ts'],
    ['../src/redis', 'docs/architecture.md', 'tree/main/src/redis'],
    ['worker.js', 'example/cluster/README.md', 'blob/main/example/cluster/worker.js'],
  ])('to %s in %s, which is no page, leads to the repository', (href, source, path) => {
    expect(linkOf(href, source, REPOSITORY)).toBe(`${REPOSITORY}/${path}`)
  })

  test.each(['https://nodejs.org/api/', 'mailto:ada@example.com', '#options', '/absolute'])(
    'to %s stays as it is',
    href => {
      expect(linkOf(href, 'README.md', REPOSITORY)).toBe(href)
    },
  )

  test('to a file that does not exist throws', () => {
    expect(() => linkOf('gone.md', 'docs/client.md', REPOSITORY)).toThrow(
      'docs/client.md: there is no docs/gone.md',
    )
  })
})

test('the sidebar has the groups of docs/README.md', () => {
  const [first, second, third] = groups()
  expect(first).toMatchObject({ name: 'Learn' })
  expect(first?.sources.slice(0, 2)).toEqual(['docs/getting-started.md', 'docs/client.md'])
  expect(second?.sources).toContain('SECURITY.md')
  expect(third).toMatchObject({ name: 'Examples' })
  expect(third?.sources).toContain('example/progress/README.md')
})

test('a page has the title of its first heading', () => {
  expect(titleOf('docs/tickets.md')).toBe('Tickets')
  expect(() => titleOf('site/home.md')).toThrow('site/home.md has no heading')
})

test.each([
  ['What is guaranteed', 'what-is-guaranteed'],
  ['Use `ctx.sse` in a handler', 'use-ctxsse-in-a-handler'],
  ['在处理函数中使用 ctx.sse', '在处理函数中使用-ctxsse'],
])('the heading "%s" has the anchor that GitHub gives it', (heading, anchor) => {
  expect(slugify(heading)).toBe(anchor)
})
