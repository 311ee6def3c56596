/** The browser's half for pages without a bundler: the built script, served from the installed package. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Middleware } from 'koa'

/** The middleware, and what tells one version of the script from another. */
export type ClientScript = Middleware & {
  /** Changes with the script: `<script src="/client.js?v=${script.version}">` may be cached for a year. */
  readonly version: string
}

/**
 * Serves the plain script of `koa-sse-pool/client`, which makes `PoolEventSource` a global. It answers GET
 * and HEAD at whatever path it is mounted, and leaves other methods to the next middleware.
 *
 * Its `ETag` is a hash of the script (RFC 9110, 8.8.3). A request with that hash as `?v=` gets `immutable`
 * and a year (RFC 8246); any other has to ask again each time, and is answered 304 while nothing has changed.
 *
 * @example
 * ```ts
 * const script = clientScript()
 * router.get('/client.js', script)
 * router.get('/', ctx => {
 *   ctx.body = `<script src="/client.js?v=${script.version}"></script>`
 * })
 * ```
 * @throws Error if the script cannot be read, as in an app that was bundled into one file: serve
 *   `koa-sse-pool/client.global.js` as a static file there.
 */
export function clientScript(): ClientScript {
  const text = readScript()
  const version = createHash('sha256').update(text).digest('base64url').slice(0, 16)
  const serve: Middleware = (ctx, next) => {
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') return next()
    const isVersioned = ctx.query.v === version
    ctx.set('Cache-Control', isVersioned ? 'public, max-age=31536000, immutable' : 'no-cache')
    ctx.set('X-Content-Type-Options', 'nosniff')
    ctx.type = 'text/javascript'
    ctx.etag = version
    // Koa compares only successful answers.
    ctx.status = 200
    if (ctx.fresh) ctx.status = 304
    else ctx.body = text
    return undefined
  }
  return Object.assign(serve, { version })
}

function readScript(): string {
  try {
    // By its name, because the place of this file differs between the source, dist/ and a bundle.
    return readFileSync(
      createRequire(import.meta.url).resolve('koa-sse-pool/client.global.js'),
      'utf8',
    )
  } catch (cause) {
    throw new Error(
      'clientScript() cannot find koa-sse-pool/client.global.js: expected the package in node_modules. In a bundled app, serve that file as a static one instead',
      { cause },
    )
  }
}
