// @ts-check
// The Chinese pages, and whether each is up to date. A Chinese page begins with a comment that names its English
// page and the hash of the text that it translates. (GitHub and npm would show front matter as a table.)
//
//   npm run translations                         lists what is missing, stale or differs, and fails if anything is
//   npm run translations -- --accept <page> …    renews the hash, once a Chinese page is up to date
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { partsThatDiffer } from './translation-parts.js'

const SUFFIX = '.zh-CN.md'
const COMMENT = /^<!-- Translation of (\S+), text ([0-9a-f]{12}) -->\r?\n/

/** For contributors, or written by a script. */
const ENGLISH_ONLY = ['docs/faults.md', 'docs/interop.md', 'docs/architecture.md', 'docs/README.md']

/**
 * The pages by which a repository's Chinese readers begin and those in docs/, as paths from its root.
 *
 * @param {string} [root] a folder, with a slash at the end; default: this repository
 */
export function translations(root = fileURLToPath(new URL('../', import.meta.url))) {
  const read = (/** @type {string} */ page) => readFileSync(`${root}${page}`, 'utf8')
  const docs = readdirSync(`${root}docs`).map(name => `docs/${name}`)
  const all = ['README.md', 'README.zh-CN.md', ...docs].filter(page => page.endsWith('.md'))
  const english = all.filter(page => !isTranslation(page) && !ENGLISH_ONLY.includes(page))
  return {
    /** English pages that have no Chinese one yet. */
    missing: english.filter(page => !all.includes(chineseName(page))),
    /** What is wrong with each Chinese page that is not up to date. */
    stale: all.filter(isTranslation).flatMap(page => whatIsStale(page) ?? []),
    /** What each Chinese page has more or less than its English page. */
    different: all
      .filter(page => isTranslation(page) && existsSync(`${root}${englishName(page)}`))
      .flatMap(page =>
        partsThatDiffer(root, englishName(page), page).map(part => `${page}: ${part}`),
      ),
    /**
     * Marks a Chinese page as up to date with its English page, as both are now.
     *
     * @param {string} page
     */
    accept(page) {
      const of = englishName(page)
      const comment = `<!-- Translation of ${of}, text ${hashOf(read(of))} -->\n`
      writeFileSync(`${root}${page}`, comment + read(page).replace(COMMENT, ''))
    },
  }

  /** @param {string} page */
  function whatIsStale(page) {
    const of = englishName(page)
    if (!existsSync(`${root}${of}`)) return [`${page}: there is no ${of}`]
    const [, named, hash] = COMMENT.exec(read(page)) ?? []
    if (named !== of) return [`${page}: it does not begin with the comment that names ${of}`]
    return hash === hashOf(read(of)) ? undefined : [`${page}: ${of} has changed since`]
  }
}

/** @param {string} page */
export function isTranslation(page) {
  return page.endsWith(SUFFIX)
}

/** The name that a page's Chinese translation has. @param {string} page */
export function chineseName(page) {
  return page.replace(/\.md$/, SUFFIX)
}

/** @param {string} page a Chinese one */
function englishName(page) {
  return page.replace(SUFFIX, '.md')
}

/** The same on systems that check files out with other line ends. @param {string} text */
function hashOf(text) {
  return createHash('sha256').update(text.replaceAll('\r\n', '\n')).digest('hex').slice(0, 12)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()

function main() {
  const [option, ...pages] = process.argv.slice(2)
  if (option === '--accept') for (const page of pages) translations().accept(page)
  const { missing, stale, different } = translations()
  for (const page of missing) console.error(`missing: ${chineseName(page)}`)
  for (const problem of stale) console.error(`stale:   ${problem}`)
  for (const problem of different) console.error(`differs: ${problem}`)
  if (missing.length + stale.length + different.length === 0) return
  console.error(
    '\nCompare each with its English page: git log -p -- <page>. Once it says the same,\nrun npm run translations -- --accept <Chinese page>',
  )
  process.exitCode = 1
}
