/** A Koa app with a pool. It can be cut off, stopped and started again, and records its requests. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http, { type ServerResponse } from 'node:http'
import http2, { type Http2ServerResponse } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import Koa from 'koa'
import { ClientPool, type PoolOptions, type RouteOptions, sse } from 'koa-sse-pool'
import { onTestFinished } from 'vitest'
import type { Handler } from '../helpers/app.js'
import { BACK, KEEPER } from './keeper.js'
import { HTML } from './recorder.js'

export const PROTOCOLS = ['HTTP/1.1', 'HTTP/2'] as const
type Protocol = (typeof PROTOCOLS)[number]

export interface SiteOptions {
  protocol: Protocol
  pool?: PoolOptions
  sse?: RouteOptions
  handler?: Handler
}

/** A request for `/events`, or for `/marker`, with which a page reports how far it has got. */
export interface SeenRequest {
  path: string
  url: string
  lastEventId: string
  httpVersion: string
  /** 0 until it is answered. */
  status: number
}

const fixture = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url))
const tls = { key: fixture('localhost.key.pem'), cert: fixture('localhost.cert.pem') }

export async function serveSite(options: SiteOptions): Promise<Site> {
  const site = new Site(options)
  onTestFinished(() => site.crash())
  await site.start()
  return site
}

export class Site {
  pool!: ClientPool
  readonly requests: SeenRequest[] = []
  readonly connections = new Set<Socket>()
  readonly #options: SiteOptions
  readonly #streams = new Set<ServerResponse | Http2ServerResponse>()
  #server!: http.Server | http2.Http2SecureServer
  #port = 0
  #waiting = new Set<() => void>()

  constructor(options: SiteOptions) {
    this.#options = options
  }

  get origin(): string {
    const scheme = this.#options.protocol === 'HTTP/2' ? 'https' : 'http'
    return `${scheme}://127.0.0.1:${this.#port}`
  }

  /** Starts with a new pool, like a restarted process, and always on the same port. */
  async start(): Promise<void> {
    this.pool = new ClientPool(this.#options.pool)
    this.pool.on('open', () => this.#check())
    this.pool.on('close', () => this.#check())
    const listener = this.#app().callback()
    this.#server =
      this.#options.protocol === 'HTTP/2'
        ? http2.createSecureServer(tls, listener)
        : http.createServer(listener)
    this.#server.on('connection', (socket: Socket) => {
      this.connections.add(socket)
      socket.once('close', () => this.connections.delete(socket))
    })
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Destroys all connections, like a network failure. Resolves when the pool has noticed. */
  cut(): Promise<void> {
    for (const socket of this.connections) socket.destroy()
    return this.until(() => this.pool.connections === 0)
  }

  /** Ends all streams silently, as a proxy may do; the connections stay open. */
  endStreams(): Promise<void> {
    for (const response of this.#streams) response.end()
    return this.until(() => this.pool.connections === 0)
  }

  /** Ends like a process on SIGKILL: no client is told, and the port is closed. */
  async crash(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.close()
    const closed = once(this.#server, 'close')
    await this.cut()
    await closed
    await this.pool.close()
  }

  /** The Last-Event-ID of each request for a stream so far. */
  get asked(): string[] {
    return this.requests.filter(({ path }) => path === '/events').map(r => r.lastEventId)
  }

  /** Resolves when the condition holds; it is checked at each request, response, open and close. */
  until(condition: () => boolean): Promise<void> {
    return new Promise(resolve => {
      const check = () => {
        if (!condition()) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
      check()
    })
  }

  #check(): void {
    for (const check of this.#waiting) check()
  }

  #app(): Koa {
    const app = new Koa()
    // Some tests are about handlers that fail.
    app.silent = true
    app.use((ctx, next) => {
      if (ctx.path === '/events') return this.#see(ctx, next)
      if (ctx.path === '/marker') return this.#see(ctx, () => (ctx.status = 204))
      if (ctx.path === '/') ctx.body = HTML
      else if (ctx.path === '/keeper') ctx.body = KEEPER
      else if (ctx.path === '/back') ctx.body = BACK
      else ctx.status = 204
      return undefined
    })
    const { handler, sse: options } = this.#options
    app.use(sse({ pool: this.pool, id: ctx => ctx.query.id, retry: 100, ...options }))
    if (handler) app.use(handler as Koa.Middleware)
    return app
  }

  #see(ctx: Koa.Context, next: () => unknown) {
    const seen: SeenRequest = {
      path: ctx.path,
      url: ctx.url,
      lastEventId: ctx.get('Last-Event-ID'),
      httpVersion: ctx.req.httpVersion,
      status: 0,
    }
    this.requests.push(seen)
    if (ctx.path === '/events') this.#streams.add(ctx.res)
    ctx.res.once('finish', () => {
      seen.status = ctx.res.statusCode
      this.#check()
    })
    ctx.res.once('close', () => {
      this.#streams.delete(ctx.res)
      this.#check()
    })
    this.#check()
    return next()
  }
}
