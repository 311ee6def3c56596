/** A process behind a proxy. It can crash, be stopped as in a deploy, and start again. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Redis } from 'ioredis'
import Koa from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import { redisLog } from 'koa-sse-pool/redis'
import { onTestFinished } from 'vitest'

export class Backend {
  pool!: ClientPool
  port = 0
  readonly #redis: string
  readonly #sockets = new Set<Socket>()
  #client!: Redis
  #server!: http.Server

  /** All backends on one Redis share a log. */
  static async start(redis: string): Promise<Backend> {
    const backend = new Backend(redis)
    await backend.start()
    onTestFinished(() => backend.crash())
    return backend
  }

  private constructor(redis: string) {
    this.#redis = redis
  }

  /** Uses the same port each time. */
  async start(): Promise<void> {
    this.#client = new Redis(this.#redis, { lazyConnect: true })
    this.#client.on('error', () => {})
    this.pool = new ClientPool({ log: redisLog({ client: this.#client, key: 'log' }) })
    const app = new Koa()
    // With the browser's default of 3 seconds, the tests would spend most of their time waiting.
    const options = { id: (ctx: Koa.Context) => ctx.query.id, retry: 50 }
    app.use(sse({ pool: this.pool, overflow: 'retry', ...options }))
    this.#server = http.createServer(app.callback())
    this.#server.on('connection', socket => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    this.#server.listen(this.port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = (this.#server.address() as AddressInfo).port
  }

  /** Ends like a process on SIGKILL: no client is told, and the port is closed. */
  async crash(): Promise<void> {
    if (!this.#server.listening) return
    const closed = this.#close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
    await this.pool.close()
    this.#client.disconnect()
  }

  /** Ends as the README recommends for SIGTERM. */
  async stop(): Promise<void> {
    await this.pool.close({ spread: 50 })
    const closed = this.#close()
    // The proxy keeps idle connections for later requests.
    this.#server.closeIdleConnections()
    await closed
    this.#client.disconnect()
  }

  #close(): Promise<unknown> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    return closed
  }
}
