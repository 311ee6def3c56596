/**
 * A page over a pool's own streams, on all processes: which clients are connected, how far each is behind, and what
 * it was sent.
 *
 * @module koa-sse-pool/inspector
 */
import type { Context, Middleware } from 'koa'
import { isRecord, isWhole } from '../lib/rules.js'
import { type Hub, hubOf } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'
import { act, bodyOf, isSameOrigin } from './actions.js'
import { Files } from './files.js'
import { Live } from './live.js'
import {
  type InspectorAction,
  type InspectorOptions,
  type ResolvedInspectorOptions,
  resolveInspector,
} from './options.js'
import { MAX_ROWS, parseKey } from './questions.js'
import { responderOf } from './responder.js'
import { Survey } from './survey.js'

export type { InspectorAction, InspectorOptions } from './options.js'

/**
 * Serves the inspector below one path: the page, its files, its event stream and its actions. Every process of the
 * app has to mount it, because each answers for its own streams.
 *
 * @throws TypeError that names the option if one is missing, unknown or wrong; above all without `authorize`.
 * @example
 * ```js
 * import { inspector } from 'koa-sse-pool/inspector'
 *
 * router.all(
 *   '/inspector{/*path}',
 *   inspector(pool, { authorize: ctx => ctx.state.user?.isAdmin === true, actions: ['send'] }),
 * )
 * ```
 */
export function inspector<Events extends object>(
  pool: ClientPool<Events>,
  options: InspectorOptions,
): Middleware {
  const resolved = resolveInspector(pool, options)
  const site = new Site(hubOf(pool), resolved)
  return async ctx => {
    // Before anything is looked up, so that a stranger cannot learn which paths there are.
    if ((await resolved.authorize(ctx)) !== true) ctx.throw(403, 'The inspector is not for you')
    await site.serve(ctx)
  }
}

class Site {
  readonly #hub: Hub
  readonly #survey: Survey
  readonly #actions: readonly InspectorAction[]
  readonly #showsData: boolean
  readonly #files = new Files()
  readonly #events: Middleware

  constructor(hub: Hub, options: ResolvedInspectorOptions) {
    const responder = responderOf(hub, options)
    this.#hub = hub
    this.#survey = new Survey(hub, responder)
    this.#actions = options.actions
    this.#showsData = options.data
    this.#events = new Live(hub, responder, this.#survey).middleware()
  }

  serve(ctx: Context): unknown {
    const path = pathBelow(ctx)
    ctx.set('X-Content-Type-Options', 'nosniff')
    ctx.set('Cross-Origin-Resource-Policy', 'same-origin')
    ctx.set('Cache-Control', 'no-cache')
    if (['send', 'remove', 'drain'].includes(path)) return this.#act(ctx, path as InspectorAction)
    if (!this.#files.has(path) && !LISTS.includes(path)) return ctx.throw(404)
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') return refuseMethod(ctx, 'GET, HEAD')
    if (path === '' && !addressOf(ctx).endsWith('/')) return addSlash(ctx)
    if (this.#files.has(path)) return this.#files.serve(ctx, path)
    // Another site cannot read the answer, but it could make all processes search their streams.
    const site = ctx.get('Sec-Fetch-Site')
    if (site !== '' && site !== 'same-origin' && site !== 'none') {
      return ctx.throw(403, 'Only the page of the inspector may ask')
    }
    return path === 'events' ? this.#events(ctx, async () => {}) : this.#list(ctx, path)
  }

  async #list(ctx: Context, path: string): Promise<void> {
    const search = textOf(ctx, 'search')
    const after = ctx.query.after === undefined ? undefined : textOf(ctx, 'after')
    const limit = numberOf(ctx, 'limit', 100)
    if (!isWhole(limit, 1, MAX_ROWS)) {
      ctx.throw(400, `"limit" must be a whole number from 1 to ${MAX_ROWS}`)
    }
    ctx.set('Cache-Control', 'no-store')
    if (path === 'options') {
      ctx.body = { actions: this.#actions, data: this.#showsData }
    } else if (path === 'channels') {
      ctx.body = await this.#survey.channels({ search, after, limit })
    } else if (path === 'streams') {
      const sort = textOf(ctx, 'sort') === 'behind' ? 'behind' : 'id'
      const key = after === undefined ? undefined : parseKey(parseJson(after))
      if (after !== undefined && key === undefined) ctx.throw(400, '"after" is not a row')
      ctx.body = await this.#survey.streams({ search, sort, after: key, limit })
    } else {
      const stream = numberOf(ctx, 'stream', 0)
      const sent = await this.#survey
        .sent(textOf(ctx, 'process'), stream, this.#showsData)
        .catch(error => ctx.throw(503, error.message))
      ctx.body = sent ?? ctx.throw(404, 'The stream has closed, or its process did not answer')
    }
  }

  async #act(ctx: Context, action: InspectorAction): Promise<void> {
    if (ctx.method !== 'POST') return refuseMethod(ctx, 'POST')
    if (!this.#actions.includes(action)) {
      ctx.throw(403, `The option "actions" does not allow "${action}"`)
    }
    if (!isSameOrigin(ctx)) ctx.throw(403, 'Only the page of the inspector may do this')
    const body = await bodyOf(ctx)
    try {
      const parts = { hub: this.#hub, survey: this.#survey }
      const result = await act(action, body, parts)
      ctx.body = result ?? ctx.throw(404, 'The process did not answer, or does not allow this')
    } catch (error) {
      if (error instanceof TypeError) ctx.throw(400, error.message)
      if (isRecord(error) && error.expose === true) throw error
      const { message, code } = error as Error & { code?: string }
      ctx.throw(code === 'ERR_SSE_EVENT_TOO_LARGE' ? 413 : 503, message, { expose: true })
    }
  }
}

/** What answers a GET beside the files. */
const LISTS = ['events', 'options', 'streams', 'channels', 'sent']

/** The path after the one where the inspector is mounted: a wildcard of a router, or what koa-mount leaves. */
function pathBelow(ctx: Context): string {
  const { params } = ctx as { params?: Record<string, string | undefined> }
  // A router sets `routerPath` or `_matchedRoute`, also when its wildcard has matched nothing.
  const isRouted = '_matchedRoute' in ctx || params !== undefined
  const path = isRouted ? (Object.values(params ?? {}).at(-1) ?? '') : ctx.path
  return path.replace(/^\//, '')
}

/** As the browser asked for it: the links of the page are relative to it. */
function addressOf(ctx: Context): string {
  return (ctx.originalUrl.split('?')[0] as string) || '/'
}

/** The location is relative, because a proxy may have cut a prefix off. */
function addSlash(ctx: Context): void {
  const name = addressOf(ctx).split('/').at(-1)
  ctx.status = 302
  ctx.set('Location', `${name}/${ctx.search}`)
  ctx.body = ''
}

function refuseMethod(ctx: Context, allowed: string): never {
  return ctx.throw(405, { headers: { Allow: allowed } })
}

/** @throws 400 for a parameter that occurs twice or is too long. */
function textOf(ctx: Context, name: string): string {
  const value = ctx.query[name] ?? ''
  if (typeof value === 'string' && value.length <= 2000) return value
  return ctx.throw(400, `"${name}" must occur once, with at most 2000 characters`)
}

function numberOf(ctx: Context, name: string, fallback: number): number {
  const text = textOf(ctx, name)
  return text === '' ? fallback : Number(text)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
