// @ts-check
// VitePress takes a page's address and language from the place of its file, so each start copies the pages to the
// places that they have on the site. (Its `rewrites` change the address only: its search then takes all pages for
// English ones.)
import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pages, ROOT } from '../pages.js'

/** The folder of the copies. */
export const PAGES = fileURLToPath(new URL('../.pages', import.meta.url))

const copies = new Map(pages.map(({ source, route }) => [join(ROOT, source), join(PAGES, route)]))

export function copyPages() {
  rmSync(PAGES, { recursive: true, force: true })
  for (const [from, to] of copies) {
    mkdirSync(dirname(to), { recursive: true })
    copyFileSync(from, to)
  }
}

/** While somebody writes: copies a page again when it changes. @param {import('vite').FSWatcher} watcher */
export function keepCopied(watcher) {
  watcher.add([...copies.keys()])
  watcher.on('change', path => {
    const to = copies.get(path)
    if (to !== undefined) copyFileSync(path, to)
  })
}
