/**
 * What a client connects to: an app with a pool, behind a proxy that cuts streams at a given place in the text or
 * holds them back. It belongs to no test, because many run at once.
 */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import Koa from 'koa'
import { ClientPool, type PoolOptions, type RouteOptions, sse } from 'koa-sse-pool'

/** What scenarios change of the route. */
export type Route = Pick<RouteOptions, 'retry' | 'overflow'>

export interface WorldOptions {
  readonly pool?: PoolOptions
  readonly route?: Route
  /** Where the first connections are cut: the end of the first match in a response. */
  readonly cuts?: readonly RegExp[]
  /** The script of `/`, for clients that run in a page. */
  readonly script?: string | undefined
  /** The path of the stream. Default: `/events`. */
  readonly path?: string | undefined
  /** Where the client's events come from, if not from `sse()` alone. */
  readonly source?: ((world: World) => Source | Promise<Source>) | undefined
  /** What the client can show of a text. Default: the text. */
  readonly encode?: ((text: string) => string) | undefined
}

/** What stands between the client and `sse()`. */
export interface Source {
  /** Answers requests, or calls `next()` for a stream of the pool. */
  readonly middleware: Koa.Middleware
  /** Whether the client has its stream. Default: a stream is open, and has been sent a cursor. */
  isConnected?(): boolean
  /** Sends to the client. Default: through the pool. */
  send?(event: { data: string; retry?: number }): Promise<unknown>
  /** Ends the client's stream for good. Default: `stream.end()`. */
  end?(): unknown
  close?(): unknown
}

/** An event as the client showed it. Those without a name are called `message`. */
export interface Shown {
  readonly name: string
  readonly data: string
}

/** A request for the stream. */
interface Request {
  readonly at: number
  readonly lastEventId: string
  /** 0 until it is answered. */
  status: number
}

/** A heartbeat of either kind, or tRPC's. */
const HEARTBEAT = /^(?:event: (?:sse\.cursor|ping)|:)\n/gm

const PAGE =
  '<!doctype html><title>Client</title><link rel="icon" href="data:,"><main></main><script src="/client.js"></script>'

/** Keeps comparisons and messages of errors short. */
export function abridged(data: string): string {
  if (data.length < 1000) return data
  return `${data.slice(0, 10)}… (${data.length})${data.includes('\n') ? '\n…' : ''}`
}

export class World {
  readonly pool: ClientPool
  readonly requests: Request[] = []
  readonly shown: Shown[] = []
  /** What the client has been sent, by connection. */
  readonly texts: string[] = []
  /** The client says that it has given up, or its request has settled. */
  hasEnded = false
  /** Every request for a stream is answered with 401. */
  refuses = false
  /** Where the client asks for its stream. */
  readonly path: string
  readonly #options: WorldOptions
  /**
   * Of its own, out of the 16 million that lead to this machine: clients of servers that have closed still ask at their
   * old address, and the system may have given this server their port.
   */
  readonly #host = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`
  readonly #sockets = new Set<net.Socket>()
  readonly #waiting = new Set<() => void>()
  readonly #held: (() => void)[] = []
  readonly #cuts = new Set<() => void>()
  #isHolding = false
  #source: Source | undefined
  #server!: http.Server
  #proxy!: net.Server

  constructor(options: WorldOptions = {}) {
    this.#options = options
    this.path = options.path ?? '/events'
    this.pool = new ClientPool({ pingInterval: 100, ...options.pool })
    for (const event of ['open', 'close'] as const) this.pool.on(event, this.check)
  }

  get origin(): string {
    return `http://${this.#host}:${(this.#proxy.address() as AddressInfo).port}`
  }

  /** The data of events without a name. */
  get messages(): string[] {
    return this.shown.filter(({ name }) => name === 'message').map(({ data }) => data)
  }

  /** The client has its stream, and its first cursor. */
  get isConnected(): boolean {
    if (this.#source?.isConnected) return this.#source.isConnected()
    return this.pool.connections > 0 && /^id: .+\n/m.test(this.texts.join(''))
  }

  /** How many the client has been sent. */
  get heartbeats(): number {
    return this.texts.join('').match(HEARTBEAT)?.length ?? 0
  }

  /** How many events are kept for clients that are away; undefined: enough. */
  get kept(): number | undefined {
    const { window } = this.#options.pool ?? {}
    return window?.events
  }

  get route(): Route {
    return { retry: 20, ...this.#options.route }
  }

  async open(): Promise<this> {
    this.#source = await this.#options.source?.(this)
    this.#server = http.createServer(this.#app().callback())
    this.#proxy = net.createServer(near => this.#pass(near))
    for (const server of [this.#server, this.#proxy]) {
      server.on('connection', (socket: net.Socket) => {
        this.#sockets.add(socket.on('error', () => {}))
        socket.once('close', () => this.#sockets.delete(socket))
      })
      await once(server.listen(0, this.#host), 'listening')
    }
    return this
  }

  async close(): Promise<void> {
    this.#proxy.close()
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await this.#source?.close?.()
    await this.pool.close()
  }

  /** Sends to the client. */
  async send(text: string, retry?: number): Promise<void> {
    const data = this.#options.encode?.(text) ?? text
    const event = retry === undefined ? { data } : { data, retry }
    await (this.#source?.send ? this.#source.send(event) : this.pool.send('ada', event))
  }

  /** Ends the client's stream for good. */
  async finish(): Promise<void> {
    if (this.#source?.end) await this.#source.end()
    else for (const stream of this.pool.get('ada')?.streams ?? []) stream.end()
  }

  readonly show = (name: string, data: string): void => {
    this.shown.push({ name, data: abridged(data) })
    this.check()
  }

  readonly end = (): void => {
    this.hasEnded = true
    this.check()
  }

  /** Cuts all connections. The client still reads what it has been sent: a reset could discard its cursor. */
  cut(): void {
    for (const cut of this.#cuts) cut()
  }

  /** Accepts connections but passes nothing on until `release`. */
  hold(): void {
    this.#isHolding = true
  }

  release(): void {
    this.#isHolding = false
    for (const pass of this.#held.splice(0)) pass()
  }

  /** Resolves to whether the condition held in time; it is checked whenever something has happened. */
  until(condition: () => boolean, milliseconds = 20_000): Promise<boolean> {
    return new Promise(resolve => {
      const settle = (holds: boolean) => {
        clearTimeout(timer)
        this.#waiting.delete(check)
        resolve(holds)
      }
      const check = () => condition() && settle(true)
      const timer = setTimeout(settle, milliseconds, false)
      this.#waiting.add(check)
      check()
    })
  }

  /** To be called when something has happened that conditions may ask for. */
  readonly check = (): void => {
    for (const check of this.#waiting) check()
  }

  #app(): Koa {
    const { script } = this.#options
    const app = new Koa()
    app.silent = true
    app.use(async (ctx, next) => {
      if (ctx.path === this.path && ctx.method === 'GET') return this.#see(ctx, next)
      // The proxy looks at the first request of a connection, so a stream must not follow a page on the same one.
      ctx.set('Connection', 'close')
      if (ctx.path === '/client.js') {
        ctx.type = 'text/javascript'
        ctx.body = script
      } else if (ctx.path === '/') ctx.body = PAGE
      else if (ctx.path === '/shown') await this.#take(ctx)
      else if (this.#source) await next()
    })
    if (this.#source) app.use(this.#source.middleware)
    app.use(
      sse({
        pool: this.pool,
        id: ctx => (this.refuses ? ctx.throw(401) : (ctx.query.id ?? 'ada')),
        ...this.route,
      }),
    )
    return app
  }

  #see(ctx: Koa.Context, next: () => Promise<unknown>): Promise<unknown> {
    const { res } = ctx
    const request = {
      at: performance.now(),
      lastEventId: ctx.get('Last-Event-ID') || String(ctx.query.lastEventId ?? ''),
      // Some sources answer later, by themselves.
      get status() {
        return res.headersSent ? res.statusCode : 0
      },
    }
    if (ctx.query.id === undefined) this.requests.push(request)
    res.once('close', this.check)
    this.check()
    return next()
  }

  /** What a page reports. */
  async #take(ctx: Koa.Context): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of ctx.req) parts.push(part)
    const { name, data } = JSON.parse(Buffer.concat(parts).toString())
    ctx.status = 204
    if (name === '') this.end()
    else this.show(name, data)
  }

  #pass(near: net.Socket): void {
    near.once('data', head => {
      const far = net.connect((this.#server.address() as AddressInfo).port, this.#host)
      this.#sockets.add(far.on('error', () => {}))
      const isStream = this.#isOfClient(head.toString('latin1'))
      const pass = () => {
        far.write(head)
        near.on('data', data => far.write(data))
      }
      const cut = () => {
        near.end()
        far.destroy()
      }
      this.#cuts.add(cut)
      near.on('close', cut)
      far.on('close', () => {
        near.end()
        this.#cuts.delete(cut)
      })
      if (isStream) this.#passStream(near, far)
      else far.on('data', data => near.write(data))
      if (isStream && this.#isHolding) this.#held.push(pass)
      else pass()
    })
  }

  /** Whether the request is for the client's stream. Some clients put their cursor into the URL. */
  #isOfClient(head: string): boolean {
    const url = /^GET (\S+) /.exec(head)?.[1]
    return url !== undefined && url.split('?')[0] === this.path && !/[?&]id=/.test(url)
  }

  #passStream(near: net.Socket, far: net.Socket): void {
    const index = this.texts.push('') - 1
    const place = this.#options.cuts?.[index]
    let whole = ''
    far.on('data', data => {
      const text = data.toString('latin1')
      const before = whole.length
      whole += text
      const match = place?.exec(whole)
      const end = match ? match.index + match[0].length : whole.length
      this.texts[index] = whole.slice(0, end)
      const passed = data.subarray(0, Math.max(end - before, 0))
      if (!match) near.write(passed)
      else {
        // Ended, not destroyed: a reset could discard bytes that the client has not read.
        near.end(passed)
        far.removeAllListeners('data').removeAllListeners('close').destroy()
      }
      this.check()
    })
  }
}
