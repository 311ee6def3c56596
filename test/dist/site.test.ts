/** The documentation's site, as it is published: built for a path such as that of GitHub Pages, and opened. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { subpaths } from '../../scripts/subpaths.js'
import { pages } from '../../site/pages.js'
import { REPOSITORY } from '../../site/repository.js'
import { type Browser, launch, waitFor } from '../e2e/browser.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BUILT = join(ROOT, 'site/.vitepress/dist')
const BASE = '/base/'
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
}
let server: http.Server
let origin: string

beforeAll(async () => {
  // The test's own NODE_ENV is not the site's.
  const env = { ...process.env, SITE_BASE: BASE, NODE_ENV: undefined }
  await promisify(execFile)('npm', ['run', 'site'], { cwd: ROOT, env }).catch(error => {
    throw new Error(`${error.message}\n${error.stdout}`)
  })
  server = http.createServer((request, response) => {
    const path = new URL(request.url ?? '', origin).pathname
    const file = path.startsWith(BASE) ? fileOf(path.slice(BASE.length)) : undefined
    if (file === undefined) return void response.writeHead(404).end()
    response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream')
    response.end(readFileSync(file))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}, 600_000)

afterAll(() => {
  server.closeAllConnections()
  server.close()
})

/** The file that a host such as GitHub Pages answers with. */
function fileOf(path: string): string | undefined {
  const found = [path, `${path}.html`, join(path, 'index.html')].map(each => join(BUILT, each))
  return found.find(file => extname(file) !== '' && existsSync(file))
}

/** The attribute's values in a page's HTML, without those that lead to other sites. */
function valuesOf(html: string, attribute: string): string[] {
  const found = html.matchAll(new RegExp(`\\s${attribute}="([^"]*)"`, 'g'))
  const values = [...found].map(([, value]) => (value as string).replaceAll('&amp;', '&'))
  return values.filter(value => !/^([a-z]+:|$)/.test(value))
}

describe('each link', () => {
  test('and each image of the site leads to a page, and to a place on it if it names one', () => {
    const ids = new Map<string, string[]>()
    const idsOf = (file: string) => {
      if (!ids.has(file)) ids.set(file, valuesOf(readFileSync(file, 'utf8'), 'id'))
      return ids.get(file) as string[]
    }
    let count = 0
    const dead: string[] = []
    const built = readdirSync(BUILT, { recursive: true, encoding: 'utf8' })
    for (const page of built.filter(file => file.endsWith('.html'))) {
      const html = readFileSync(join(BUILT, page), 'utf8')
      const own = `${BASE}${page.replace(/(index)?\.html$/, '')}`
      for (const to of [...valuesOf(html, 'href'), ...valuesOf(html, 'src')]) {
        count++
        const { pathname, hash } = new URL(to, new URL(own, origin))
        const file = pathname.startsWith(BASE) ? fileOf(pathname.slice(BASE.length)) : undefined
        const id = decodeURIComponent(hash.slice(1))
        if (file === undefined || (id !== '' && !idsOf(file).includes(id))) {
          dead.push(`${page}: ${to}`)
        }
      }
    }
    expect(count).toBeGreaterThan(5000)
    expect(dead).toEqual([])
  })

  test('out of the documentation leads to the repository', () => {
    const html = readFileSync(join(BUILT, 'reliability.html'), 'utf8')
    expect(html).toContain(`href="${REPOSITORY}/blob/main/test/faults/replay.test.ts"`)
  })
})

test('there is a page for each entry of the list, and for each import', () => {
  const routes = pages.map(({ route }) => route.replace(/\.md$/, '.html'))
  expect(routes.filter(route => !existsSync(join(BUILT, route)))).toEqual([])
  const sidebar = readFileSync(join(BUILT, 'getting-started.html'), 'utf8')
  expect(subpaths.filter(({ specifier }) => !sidebar.includes(`>${specifier}<`))).toEqual([])
})

const samples = ['', 'zh/', 'readme', 'scaling', 'api/koa-sse-pool', 'examples/progress/']

// The window matters to each page, the colours do not.
test.each([
  ['phone', 'light', { width: 360, height: 740 }, samples],
  ['phone', 'dark', { width: 360, height: 740 }, ['']],
  ['desktop', 'light', { width: 1280, height: 800 }, ['']],
  ['desktop', 'dark', { width: 1280, height: 800 }, samples],
] as const)('on a %s the pages fit, and are %s', async (_, colorScheme, viewport, paths) => {
  const page = await (await browserFor({ colorScheme, viewport })).open()
  for (const path of paths) {
    await page.goto(`${origin}${BASE}${path}`)
    const seen = await page.eval(() => ({
      hasHeading: document.querySelector('h1')?.textContent?.trim() !== '',
      overflow: Math.max(document.documentElement.scrollWidth - window.innerWidth, 0),
      isLight: getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)',
      broken: [...document.images].filter(image => image.naturalWidth === 0).length,
    }))
    const isLight = colorScheme === 'light'
    expect({ path, ...seen }).toEqual({ path, hasHeading: true, overflow: 0, isLight, broken: 0 })
  }
})

test('the search finds words of a text, names of options and, without spaces, Chinese', async () => {
  const browser = await browserFor()
  for (const [path, words, expected] of [
    ['', 'rollback', 'postgres'],
    ['', 'maxAge', 'readme'],
    ['zh/', '补发', 'zh/'],
  ] as const) {
    // The search remembers what was searched in a tab.
    const page = await browser.open()
    await page.goto(`${origin}${BASE}${path}`)
    await page.eval(async () => {
      // The button of the HTML does nothing until Vue has mounted the page, which no event tells.
      const app = document.querySelector('#app') as Element & { __vue_app__?: unknown }
      while (!app.__vue_app__) await new Promise(resolve => setTimeout(resolve))
      document.querySelector<HTMLElement>('.DocSearch-Button')?.click()
    })
    await waitFor(page, () => document.querySelector('#localsearch-input') !== null)
    await page.eval(words => {
      const input = document.querySelector('#localsearch-input') as HTMLInputElement
      input.value = words
      input.dispatchEvent(new Event('input', { bubbles: true }))
    }, words)
    await waitFor(
      page,
      prefix => {
        const found = document.querySelectorAll<HTMLAnchorElement>('#localsearch-list a.result')
        return [...found].some(({ pathname }) => pathname.startsWith(prefix))
      },
      BASE + expected,
    )
    await page.close()
  }
})

async function browserFor(options: Parameters<typeof launch>[1] = {}): Promise<Browser> {
  const browser = await launch('chromium', options)
  onTestFinished(() => browser.close())
  return browser
}
