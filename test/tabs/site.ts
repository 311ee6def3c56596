/** A site whose pages share streams. It records each request for one, and who made it. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { type ClientPool, type PoolOptions, type RouteOptions, sse } from 'koa-sse-pool'
import { listen, testPool } from '../helpers/server.js'
import { pageWith } from './page.js'

interface StreamRequest {
  /** The number of the tab, from the URL of its page. */
  readonly tab: number
  readonly lastEventId: string
  readonly accept: string
  readonly authorization: string
  /** 0 until it is answered. */
  status: number
  isOpen: boolean
}

export interface TabSiteOptions {
  /** The text of `/client.js`. */
  readonly script: string
  readonly isHttp2?: boolean
  readonly pool?: PoolOptions
  readonly route?: RouteOptions
  /** Sees each request before the pool does. */
  readonly before?: Koa.Middleware
}

export interface TabSite {
  readonly pool: ClientPool
  readonly origin: string
  readonly port: number
  /** The requests for `/events` so far. */
  readonly requests: StreamRequest[]
  /** The number of the tab whose stream is open. */
  readonly leader: number | undefined
  /** Cuts all connections. */
  readonly cut: () => void
  /** Cuts all connections, and listens no more. */
  readonly stop: () => Promise<void>
  /** Resolves as soon as the condition holds, which is checked at each request and end of one. */
  until(condition: (site: TabSite) => boolean): Promise<void>
}

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url))

/** Serves it until the test has finished. */
export async function serveTabs(options: TabSiteOptions): Promise<TabSite> {
  const pool = testPool(options.pool)
  const requests: StreamRequest[] = []
  const waiting = new Set<() => void>()
  const check = () => {
    for (const one of waiting) one()
  }

  const app = new Koa()
  app.use(async (ctx, next) => {
    if (ctx.path === '/client.js') {
      ctx.type = 'text/javascript'
      ctx.body = options.script
    } else if (ctx.path === '/') ctx.body = pageWith()
    else if (ctx.path === '/events') {
      const request: StreamRequest = {
        tab: Number(new URL(ctx.get('Referer') || 'http://none/').searchParams.get('tab')),
        lastEventId: ctx.get('Last-Event-ID') || String(ctx.query.lastEventId ?? ''),
        accept: ctx.get('Accept'),
        authorization: ctx.get('Authorization'),
        status: 0,
        isOpen: true,
      }
      requests.push(request)
      check()
      ctx.res.once('close', () => {
        request.isOpen = false
        check()
      })
      try {
        await next()
        request.status = ctx.status
      } catch (error) {
        request.status = (error as { status: number }).status
        throw error
      } finally {
        check()
      }
    } else if (options.before) await next()
    else ctx.status = 204
  })
  if (options.before) app.use(options.before)
  app.use((ctx, next) => (ctx.path === '/events' ? next() : undefined))
  app.use(sse({ pool, id: () => 'ada', retry: 100, ...options.route } as RouteOptions))

  const server = options.isHttp2
    ? http2.createSecureServer(
        { key: fixture('localhost.key.pem'), cert: fixture('localhost.cert.pem') },
        app.callback(),
      )
    : http.createServer(app.callback())
  const { origin, port, cut } = await listen(server)
  pool.on('open', check)
  pool.on('close', check)
  const site: TabSite = {
    pool,
    origin: options.isHttp2 ? origin.replace('http:', 'https:') : origin,
    port,
    requests,
    get leader() {
      return requests.findLast(({ isOpen, status }) => isOpen && status === 200)?.tab
    },
    cut,
    async stop() {
      const closed = once(server, 'close')
      server.close()
      cut()
      await closed
    },
    until(condition) {
      return new Promise(resolve => {
        const one = () => {
          if (!condition(site)) return
          waiting.delete(one)
          resolve()
        }
        waiting.add(one)
        one()
      })
    },
  }
  return site
}
