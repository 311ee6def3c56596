/** Servers and clients for tests, all on loopback and ephemeral ports, and all ended after the test. */
import { once } from 'node:events'
import http from 'node:http'
import type http2 from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import Koa from 'koa'
import { ClientPool, type EventMap, type PoolOptions, type RouteOptions, sse } from 'koa-sse-pool'
import { onTestFinished } from 'vitest'

type AnyServer = http.Server | http2.Http2Server | http2.Http2SecureServer

interface Listening {
  readonly port: number
  readonly origin: string
  /** Cuts all connections. Node's `closeAllConnections` does not reach lean streams. */
  readonly cut: () => void
}

/** Listens on a free loopback port until the test has finished. */
export async function listen(server: AnyServer): Promise<Listening> {
  const sockets = new Set<net.Socket>()
  server.on('connection', socket => sockets.add(socket))
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    cut()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { port, origin: `http://127.0.0.1:${port}`, cut }
}

/** In the project `lean`, all pools are lean unless the test says otherwise. */
const lean = process.env.TEST_LEAN === 'true'

/** A pool that is closed when the test has finished. */
export function testPool<Events extends object = EventMap>(
  options?: PoolOptions<Events>,
): ClientPool<Events> {
  const pool = new ClientPool<Events>({ lean, ...options })
  onTestFinished(() => pool.close())
  return pool
}

/** An app in which every path is an event stream of the pool, for the client `?id=`. */
export async function serveStreams(
  options: RouteOptions & { pool: ClientPool },
  handler?: Koa.Middleware<Koa.DefaultState, { sse: import('koa-sse-pool').EventStream }>,
) {
  const app = new Koa()
  app.use(sse({ id: ctx => ctx.query.id, ...options }))
  if (handler) app.use(handler as Koa.Middleware)
  const server = http.createServer(app.callback())
  return { app, server, ...(await listen(server)) }
}

/** A client with an independent parser. Its methods wait for events, never for time. */
export class TestClient {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly events: EventSourceMessage[] = []
  readonly comments: string[] = []
  /** Everything that was received, as text. */
  text = ''
  /** Resolves when the response is over: true if it ended cleanly, false if it was cut. */
  readonly ended: Promise<boolean>
  readonly response: http.IncomingMessage
  readonly #waiting = new Set<() => void>()

  constructor(response: http.IncomingMessage) {
    this.response = response
    this.status = response.statusCode as number
    this.headers = response.headers
    const parser = createParser({
      onEvent: event => this.events.push(event),
      onComment: comment => this.comments.push(comment),
      onRetry: () => {},
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      this.text += text
      parser.feed(text)
      for (const check of this.#waiting) check()
    })
    response.on('error', () => {})
    this.ended = new Promise(resolve => response.on('close', () => resolve(response.complete)))
    void this.ended.then(() => {
      for (const check of this.#waiting) check()
    })
  }

  /** The events that the app sent, without those of the package itself. */
  get messages(): EventSourceMessage[] {
    return this.events.filter(({ event }) => !event?.startsWith('sse.'))
  }

  get data(): string[] {
    return this.messages.map(({ data }) => data)
  }

  /** The id that a browser would send when it reconnects. */
  get lastEventId(): string {
    return this.events.findLast(({ id }) => id !== undefined)?.id ?? ''
  }

  /** Resolves as soon as the condition holds; rejects if the response ends before that. */
  async until(condition: (client: this) => boolean): Promise<this> {
    let isOver = false
    void this.ended.then(() => {
      isOver = true
    })
    await new Promise<void>((resolve, reject) => {
      const check = () => {
        if (condition(this)) resolve()
        else if (isOver) reject(new Error(`The stream ended before that; it sent:\n${this.text}`))
        else return
        this.#waiting.delete(check)
      }
      this.#waiting.add(check)
      check()
      void this.ended.then(check)
    })
    return this
  }

  /** Resolves to the first event of that name, which may already have arrived. */
  async event(name: string): Promise<EventSourceMessage> {
    await this.until(client => client.events.some(({ event }) => event === name))
    return this.events.find(({ event }) => event === name) as EventSourceMessage
  }

  close(): void {
    this.response.destroy()
  }
}

/** Opens a stream over HTTP/1.1 on its own connection, with keep-alive as browsers request it. */
export async function connect(
  origin: string,
  path = '/',
  options: http.RequestOptions = {},
): Promise<TestClient> {
  // By default Node sends `close` here, with which no stream ever becomes lean.
  const headers = { Connection: 'keep-alive', ...options.headers }
  const request = http.request(`${origin}${path}`, { agent: false, ...options, headers })
  request.on('error', () => {})
  request.end()
  onTestFinished(() => {
    request.destroy()
  })
  const [response] = await once(request, 'response')
  return new TestClient(response)
}

/** A bare connection, for what no HTTP client would do. */
export async function rawConnection(port: number): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1')
  socket.on('error', () => {})
  onTestFinished(() => {
    socket.destroy()
  })
  await once(socket, 'connect')
  return socket
}
