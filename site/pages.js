// @ts-check
// Which file of the repository is which page. The pages are the Markdown that GitHub and npm show, and the sidebar
// is the index in docs/README.md.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isTranslation } from '../scripts/translations.js'

export const ROOT = fileURLToPath(new URL('../', import.meta.url))

/**
 * A page by its path in the repository, and by its path on the site, both with `.md`.
 *
 * @typedef {{ source: string, route: string }} Page
 */

/** @type {Page[]} */
export const pages = [
  { source: 'site/home.md', route: 'index.md' },
  { source: 'site/home.zh-CN.md', route: 'zh/index.md' },
  { source: 'README.md', route: 'readme.md' },
  { source: 'README.zh-CN.md', route: 'zh/readme.md' },
  { source: 'SECURITY.md', route: 'security.md' },
  { source: 'CONTRIBUTING.md', route: 'contributing.md' },
  { source: 'CHANGELOG.md', route: 'changelog.md' },
  { source: 'docs/README.md', route: 'contents.md' },
  ...markdownIn('docs')
    .filter(name => name !== 'README.md')
    .map(name => ({ source: `docs/${name}`, route: routeOf(name) })),
  ...markdownIn('docs/api').map(name => ({
    source: `docs/api/${name}`,
    // By what is imported. A dot before the end would look like the extension of a file.
    route: `api/${name === 'README.md' ? 'index.md' : name.replace('koa-sse-pool.', '').replace(/^md$/, 'koa-sse-pool.md')}`,
  })),
  ...readdirSync(`${ROOT}example`)
    .filter(name => existsSync(`${ROOT}example/${name}/README.md`))
    .map(name => ({ source: `example/${name}/README.md`, route: `examples/${name}/index.md` })),
]

const routes = new Map(pages.map(({ source, route }) => [source, route]))

/** The path in the repository of a page of the site. @param {string} route */
export function sourceOf(route) {
  const page = pages.find(each => each.route === route)
  if (page === undefined) throw new Error(`there is no page ${route}`)
  return page.source
}

/** @param {string} name */
function routeOf(name) {
  return isTranslation(name) ? `zh/${name.replace('.zh-CN', '')}` : name
}

/** @param {string} folder */
function markdownIn(folder) {
  return readdirSync(`${ROOT}${folder}`).filter(name => name.endsWith('.md'))
}

/**
 * Where a link of a page leads on the site: to another page, or to the file in the repository if it is none.
 * Throws if there is no such file. Links to other sites and within the page stay as they are.
 *
 * @param {string} href as it is written
 * @param {string} source the page's path in the repository
 * @param {string} repository the address of the repository
 */
export function linkOf(href, source, repository) {
  if (/^([a-z]+:|#|\/)/i.test(href)) return href
  const [, path = '', hash = ''] = /^([^#]*)(#.*)?$/.exec(href) ?? []
  const target = posix.join(posix.dirname(source), path).replace(/\/$/, '')
  const page = routes.get(target) ?? routes.get(`${target}/README.md`)
  if (page !== undefined) return `/${page}${hash}`
  if (!existsSync(`${ROOT}${target}`)) throw new Error(`${source}: there is no ${target} (${href})`)
  const kind = statSync(`${ROOT}${target}`).isDirectory() ? 'tree' : 'blob'
  return `${repository}/${kind}/main/${target}${hash}`
}

/** The text of a page's first heading. @param {string} source */
export function titleOf(source) {
  const [, title] = /^# (.+)$/m.exec(read(source)) ?? []
  if (title === undefined) throw new Error(`${source} has no heading`)
  return title.replaceAll('`', '')
}

/**
 * The groups of docs/README.md: the tables, each by its first head or the heading above it, and the pages that
 * the first column links to.
 *
 * @returns {{ name: string, sources: string[] }[]}
 */
export function groups() {
  /** @type {{ name: string, sources: string[] }[]} */
  const found = []
  let heading = ''
  const lines = read('docs/README.md').split('\n')
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('## ')) heading = line.slice(3)
    const cell = line.startsWith('|') ? (line.split('|')[1] ?? '').trim() : undefined
    if (cell === undefined) continue
    if (lines[index + 1]?.startsWith('|-')) found.push({ name: cell || heading, sources: [] })
    const [, href] = /^\[[^\]]+\]\(([^)]+)\)/.exec(cell) ?? []
    if (href === undefined) continue
    const source = posix.join('docs', href)
    found.at(-1)?.sources.push(source.endsWith('.md') ? source : `${source}/README.md`)
  }
  return found
}

/** @param {string} source */
function read(source) {
  return readFileSync(`${ROOT}${source}`, 'utf8')
}
