// @ts-check
// Whether a Chinese page has the parts of its English page: headings, code blocks, table rows and links. A sentence
// that is missing or wrong is found by reading only.
import { existsSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { slugify } from '../site/slugify.js'

const SUFFIX = '.zh-CN'

/**
 * What a Chinese page has more or less than its English page.
 *
 * @param {string} root the folder of the repository, with a slash at the end
 * @param {string} english the path of the English page from there
 * @param {string} chinese that of the Chinese one
 * @returns {string[]}
 */
export function partsThatDiffer(root, english, chinese) {
  const of = sectionsOf(read(root + english))
  const to = sectionsOf(read(root + chinese))
  const levels = of.map(({ level }) => level).join(' ')
  const has = to.map(({ level }) => level).join(' ')
  // The sections cannot be compared one by one.
  if (levels !== has) return [`its headings have the levels ${has}, not ${levels}`]
  return [
    ...of.flatMap((section, index) =>
      countsThatDiffer(section, /** @type {Section} */ (to[index])),
    ),
    ...linksThatDiffer(root, english, chinese),
  ]
}

/** @typedef {{ level: number, heading: string, blocks: number, rows: number }} Section */

/** @param {Section} of @param {Section} to */
function countsThatDiffer(of, to) {
  /** @type {[string, number, number][]} */
  const counts = [
    ['code blocks', to.blocks, of.blocks],
    ['table rows', to.rows, of.rows],
  ]
  return counts
    .filter(([, has, wanted]) => has !== wanted)
    .map(([what, has, wanted]) => `"${to.heading}" has ${has} ${what}, not ${wanted}`)
}

/** The first section is the text before the first heading. @param {string} text */
function sectionsOf(text) {
  /** @type {Section[]} */
  const sections = [{ level: 0, heading: '', blocks: 0, rows: 0 }]
  let isCode = false
  for (const line of text.split('\n')) {
    const section = /** @type {Section} */ (sections.at(-1))
    if (line.startsWith('```')) {
      isCode = !isCode
      if (isCode) section.blocks += 1
    }
    if (isCode) continue
    const [, hashes, heading] = /^(#+) (.+)$/.exec(line) ?? []
    if (hashes !== undefined && heading !== undefined)
      sections.push({ level: hashes.length, heading, blocks: 0, rows: 0 })
    else if (line.startsWith('|')) section.rows += 1
  }
  return sections
}

/**
 * Their order may differ, as that of the words does.
 *
 * @param {string} root @param {string} english @param {string} chinese
 */
function linksThatDiffer(root, english, chinese) {
  const wanted = linksOf(read(root + english))
    .filter(href => posix.join(posix.dirname(english), href) !== chinese)
    .map(href => inChinese(root, english, href))
  const missing = []
  const left = linksOf(read(root + chinese)).filter(
    href => posix.join(posix.dirname(chinese), href) !== english,
  )
  for (const href of wanted) {
    const index = left.indexOf(href)
    if (index === -1) missing.push(href)
    else left.splice(index, 1)
  }
  return [
    ...missing.map(href => `it has no link to ${href}`),
    ...left.map(href => `its English page has no such link: ${href}`),
  ]
}

/** @param {string} text */
function linksOf(text) {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, href]) => /** @type {string} */ (href))
}

/**
 * Where the Chinese page has to lead instead: to the Chinese page or image, if there is one, and there to the heading
 * that is in the place of the English one.
 *
 * @param {string} root @param {string} english the page @param {string} href its link
 */
function inChinese(root, english, href) {
  const [, path = '', hash] = /^([^#]*)(?:#(.*))?$/.exec(href) ?? []
  if (href.includes('://')) return href
  const target = path === '' ? english : posix.join(posix.dirname(english), path)
  const translated = target.replace(/\.(?:md|svg)$/, `${SUFFIX}$&`)
  if (translated === target || !existsSync(root + translated)) return href
  const page = path.replace(/\.(?:md|svg)$/, `${SUFFIX}$&`)
  if (hash === undefined) return page
  const index = anchorsOf(root + target).indexOf(hash)
  return `${page}#${anchorsOf(root + translated)[index] ?? hash}`
}

/** @param {string} path */
function anchorsOf(path) {
  return sectionsOf(read(path)).map(({ heading }) => slugify(heading))
}

/** The same on systems that check files out with other line ends. @param {string} path */
function read(path) {
  return readFileSync(path, 'utf8').replaceAll('\r\n', '\n')
}
