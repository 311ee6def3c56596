// @ts-check
import { relative } from 'node:path'
import { ROOT } from '../pages.js'

/**
 * Lets each link lead where it must on the site. VitePress itself resolves links from a page's address, and
 * the pages have others than their files. Its check for dead links comes later and sees what is written here.
 *
 * @param {import('vitepress').MarkdownRenderer} md
 * @param {(href: string, source: string) => string} linkOf
 */
export function relink(md, linkOf) {
  md.core.ruler.push('relink', ({ tokens, env }) => {
    // VitePress also renders a heading alone, as a title, and then names no page.
    const path = env.realPath ?? env.path
    if (path === undefined) return
    const source = relative(ROOT, path).replaceAll('\\', '/')
    for (const token of tokens.flatMap(each => [each, ...(each.children ?? [])])) {
      const href = token.type === 'link_open' ? token.attrGet('href') : null
      if (href !== null) token.attrSet('href', linkOf(decodeURI(href), source))
      // Vite finds only images whose path begins with a dot.
      if (token.type === 'html_block') {
        token.content = token.content.replace(/\b(src|srcset)="(?=\w)(?!https?:)/g, '$1="./')
      }
    }
  })
}
