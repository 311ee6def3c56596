// @ts-check
import { dirname, join, relative } from 'node:path'
import { linkOf, ROOT, sourceOf } from '../pages.js'
import { REPOSITORY } from '../repository.js'

/**
 * Lets each link and image lead where it must on the site, where the pages have other places than their files.
 * VitePress's own check for dead links comes later and sees what is written here.
 *
 * @param {import('vitepress').MarkdownRenderer} md
 * @param {string} folder of the pages
 */
export function relink(md, folder) {
  md.core.ruler.push('relink', ({ tokens, env }) => {
    // VitePress also renders a heading alone, as a title, and then names no page.
    if (env.path === undefined) return
    const source = sourceOf(slashed(relative(folder, env.path)))
    // An image is no page: it is taken from beside the original.
    const imageOf = (/** @type {string} */ src) => {
      if (/^([a-z]+:|\/)/i.test(src)) return src
      return slashed(relative(dirname(env.path), join(ROOT, dirname(source), src)))
    }
    for (const token of tokens.flatMap(each => [each, ...(each.children ?? [])])) {
      const href = token.type === 'link_open' ? token.attrGet('href') : null
      if (href !== null) token.attrSet('href', linkOf(decodeURI(href), source, REPOSITORY))
      const src = token.type === 'image' ? token.attrGet('src') : null
      if (src !== null) token.attrSet('src', imageOf(src))
      if (token.type === 'html_block') {
        token.content = token.content.replace(
          /\b(src|srcset)="([^"]+)"/g,
          (_, name, value) => `${name}="${imageOf(value)}"`,
        )
      }
    }
  })
}

/** @param {string} path */
function slashed(path) {
  return path.replaceAll('\\', '/')
}
