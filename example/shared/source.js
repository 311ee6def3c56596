// @ts-check
// Where the links to source, READMEs and documentation lead: to the repository, if its address is known. Otherwise, as
// long as the package is not published, this server shows the files, as text.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'

const ROOT = new URL('../../', import.meta.url)
const EXAMPLE = new URL('../', import.meta.url)

// Not there if the example was copied into a project.
const { REPOSITORY = '' } = await import(new URL('site/repository.js', ROOT).href).catch(() => ({}))
const isKnown = REPOSITORY !== '' && !REPOSITORY.includes('OWNER/')

const to = isKnown ? `${REPOSITORY}/blob/main/` : 'source/'
const toFolder = isKnown ? `${REPOSITORY}/tree/main/` : 'source/'

export const links = {
  /** @param {string} name */
  example: name => `${toFolder}example/${name}${isKnown ? '' : '/'}`,
  /** @param {string} name */
  readme: name => `${to}example/${name}/README.md`,
  docs: `${to}docs/README.md`,
}

/** The files that may be shown, by their paths: nothing that an example has stored, and nothing that was installed. */
const paths = new Set([
  ...filesIn(EXAMPLE, 'example/', /^(?!.*node_modules).*\.(js|css|html|md)$/),
  ...filesIn(new URL('docs/', ROOT), 'docs/', /^[^/]*\.md$/),
  ...['README.md', 'README.zh-CN.md'].filter(path => existsSync(new URL(path, ROOT))),
])

/** @param {import('@koa/router').default} router */
export function serveSource(router) {
  router.get(/^\/source\//, ctx => {
    const path = ctx.path.slice('/source/'.length)
    const text = paths.has(path) ? readFileSync(new URL(path, ROOT), 'utf8') : indexOf(path)
    if (text === undefined) return
    ctx.type = 'html'
    ctx.body = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>${path}</title>
<pre style="white-space: pre-wrap">${withLinks(asHtml(text), path)}</pre>`
  })
}

/** The files of a folder, as Markdown. @param {string} folder */
function indexOf(folder) {
  const inside = [...paths].filter(path => path.startsWith(folder))
  if (!folder.endsWith('/') || inside.length === 0) return undefined
  const shared = folder === 'example/shared/' ? [] : ['../shared/']
  const names = inside.map(path => path.slice(folder.length))
  return [`# ${folder}`, '', ...[...names, ...shared].map(name => `- [${name}](${name})`)].join(
    '\n',
  )
}

/** Makes links of those in Markdown that lead to a file that can be shown. @param {string} text @param {string} from */
function withLinks(text, from) {
  return text.replace(/\]\(([^):#\s]+)(#[^)\s]*)?\)/g, (all, target, hash = '') => {
    const path = posix.join(posix.dirname(`${from}x`), target)
    const isFolder = [...paths].some(each => each.startsWith(`${path.replace(/\/$/, '')}/`))
    if (!paths.has(path) && !isFolder) return all
    const href = `/source/${path}${isFolder && !path.endsWith('/') ? '/' : ''}`
    return `](<a href="${href}">${target}${hash}</a>)`
  })
}

/** @param {URL} folder @param {string} prefix @param {RegExp} wanted */
function filesIn(folder, prefix, wanted) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => name.replaceAll('\\', '/'))
    .filter(name => wanted.test(name))
    .sort()
    .map(name => `${prefix}${name}`)
}

/** @param {string} text */
function asHtml(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
