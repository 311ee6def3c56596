/** The files of the page, as they are in the package. They need no other site and no inline script. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Context } from 'koa'

const NAMES = ['index.html', 'page.css', 'page.js', 'table.js', 'charts.js', 'words.js'] as const

/** Nothing may be loaded, run, framed or submitted but these files. Names of clients come from anyone. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ')

interface PageFile {
  readonly text: string
  readonly version: string
}

export class Files {
  readonly #files = new Map<string, PageFile>()

  constructor() {
    for (const name of NAMES) {
      const text = read(name)
      const version = createHash('sha256').update(text).digest('base64url').slice(0, 16)
      this.#files.set(name === 'index.html' ? '' : name, { text, version })
    }
  }

  has(name: string): boolean {
    return this.#files.has(name)
  }

  serve(ctx: Context, name: string): void {
    const { text, version } = this.#files.get(name) as PageFile
    ctx.set('Content-Security-Policy', POLICY)
    ctx.set('X-Frame-Options', 'DENY')
    ctx.set('Referrer-Policy', 'same-origin')
    ctx.type = name === '' ? 'html' : name
    ctx.etag = version
    // Koa compares only successful answers.
    ctx.status = 200
    if (ctx.fresh) ctx.status = 304
    else ctx.body = text
  }
}

/** The folder has the same place beside this file and beside what it is built into. */
function read(name: string): string {
  try {
    return readFileSync(new URL(`./inspector-page/${name}`, import.meta.url), 'utf8')
  } catch (cause) {
    throw new Error(
      `inspector() cannot find inspector-page/${name}: expected it beside the built package. In a bundled app, mark koa-sse-pool as external`,
      { cause },
    )
  }
}
