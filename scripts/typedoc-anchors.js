// @ts-check
// A plugin of TypeDoc. typedoc-plugin-markdown counts the parameter `code` of SseError and the type SseErrorCode as
// two headings `sseerrorcode`, and links to a second one that no page has. Such a link is led to the first.
import { slugify } from '../site/slugify.js'

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.renderer.on('endPage', page => {
    if (page.contents) page.contents = withoutDeadAnchors(page.contents)
  })
}

/** @param {string} text */
function withoutDeadAnchors(text) {
  const headings = Array.from(text.matchAll(/^#+ (.+)$/gm), ([, heading = '']) => slugify(heading))
  return text.replace(/\(#([\w-]+)-(\d+)\)/g, (link, name, number) => {
    const isThere = headings.filter(heading => heading === name).length > Number(number)
    const isElement = text.includes(`<a id="${name}-${number}">`)
    return isThere || isElement || !headings.includes(name) ? link : `(#${name})`
  })
}
