/** Which sites may connect, and the CORS headers that let their pages read the response. */
import type { Context } from 'koa'
import { isRecord } from '../lib/rules.js'
import type { ResolvedRouteOptions } from './options.js'

const CORS_HEADERS = ['Vary', 'Access-Control-Allow-Origin', 'Access-Control-Allow-Credentials']

const METHODS = 'GET, HEAD, POST'

/** Whether the request uses a name of the app for this host. */
export function admitsHost(ctx: Context, { allowedHosts }: ResolvedRouteOptions): boolean {
  return allowedHosts === undefined || allowedHosts.includes(hostNameOf(ctx))
}

/** Whether pages of this site may connect; if so, sets the CORS headers. */
export async function admitsOrigin(
  ctx: Context,
  { allowedOrigins }: ResolvedRouteOptions,
): Promise<boolean> {
  if (allowedOrigins === undefined) return true
  ctx.vary('Origin')
  const origin = ctx.get('Origin')
  if (!isSameSite(ctx, origin)) {
    const claimed = origin || refererOf(ctx)
    if (claimed === '' || (await allowedOrigins(claimed)) !== true) return false
  }
  if (origin !== '') {
    // Exactly this origin, because browsers refuse `*` together with credentials.
    ctx.set('Access-Control-Allow-Origin', origin)
    ctx.set('Access-Control-Allow-Credentials', 'true')
  }
  return true
}

/**
 * Adds the CORS headers to an error, because Koa removes all headers that were set before. Without them the
 * page could not read the status.
 */
export function keepCorsHeaders(ctx: Context, error: unknown, route: ResolvedRouteOptions): void {
  if (route.allowedOrigins === undefined || !isRecord(error)) return
  const kept = CORS_HEADERS.filter(name => ctx.res.hasHeader(name)).map(name => [
    name,
    ctx.res.getHeader(name),
  ])
  const headers = isRecord(error.headers) ? error.headers : {}
  // Not by assignment, which would throw for a frozen error.
  Reflect.set(error, 'headers', { ...Object.fromEntries(kept), ...headers })
}

/** Answers a CORS preflight (Fetch, "CORS-preflight fetch"); a stream would never end. */
export function preflight(ctx: Context, { allowedOrigins }: ResolvedRouteOptions): void {
  const requested = ctx.get('Access-Control-Request-Headers')
  const isTrusted = allowedOrigins !== undefined && requested !== ''
  if (isTrusted) ctx.vary('Access-Control-Request-Headers')
  ctx.status = 204
  ctx.set('Allow', METHODS)
  ctx.set('Access-Control-Allow-Methods', METHODS)
  ctx.set('Access-Control-Allow-Headers', isTrusted ? requested : 'Content-Type, Last-Event-ID')
}

/** Whether the page that sends the request is of this site, by headers that pages cannot forge. */
function isSameSite(ctx: Context, origin: string): boolean {
  const site = ctx.get('Sec-Fetch-Site')
  if (site === 'same-origin') return true
  // Not `ctx.origin`, which in Koa 3 is the header itself, and would allow every origin.
  const isOwn = origin === `${ctx.protocol}://${ctx.host}`
  // The user's own navigation, which has no origin.
  if (site === 'none') return origin === '' || isOwn
  if (site !== '') return false
  // Browsers send `Sec-Fetch-Site` only over HTTPS and to localhost, and `Origin` not with an image.
  return origin === '' ? isOwnReferer(ctx) : isOwn
}

/** By host, as an app behind a proxy may not know that it is served over HTTPS. */
function isOwnReferer(ctx: Context): boolean {
  const referer = refererOf(ctx)
  // Of an address such as `data:`, the origin is the text "null", which is no URL.
  return referer === '' || referer.split('://')[1] === ctx.host
}

/** The origin of the page by its address, for browsers that send no `Sec-Fetch-Site`. */
function refererOf(ctx: Context): string {
  const referer = ctx.get('Sec-Fetch-Site') === '' ? ctx.get('Referer') : ''
  return URL.canParse(referer) ? new URL(referer).origin : ''
}

/** As it came, without the port. A page that rebinds its name to this server cannot change it. */
function hostNameOf({ req }: Context): string {
  const host = req.headers[':authority'] ?? req.headers.host ?? ''
  return String(host).replace(/:\d+$/, '').toLowerCase()
}
