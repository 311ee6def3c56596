/** The way to an engine, which can be slow, and be gone and come back. */
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'

export class Link {
  readonly port: number
  /** How long each piece of data takes, both ways. */
  milliseconds = 0
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()
  #isGone = false

  static async to(port: number): Promise<Link> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Link(server, port)
  }

  private constructor(server: net.Server, port: number) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', near => {
      if (this.#isGone) near.destroy()
      else this.#join(near, net.connect(port, '127.0.0.1'))
    })
  }

  get isGone(): boolean {
    return this.#isGone
  }

  /** Cuts all connections and accepts none. */
  goAway(): void {
    this.#isGone = true
    for (const socket of this.#sockets) socket.destroy()
  }

  comeBack(): void {
    this.#isGone = false
  }

  close(): void {
    this.goAway()
    this.#server.close()
  }

  #join(near: net.Socket, far: net.Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from)
      from.setNoDelay()
      // A queue, because timers of different lengths would put the pieces out of order.
      const waiting: { due: number; data: Buffer }[] = []
      const flush = () => {
        while (waiting[0] !== undefined && waiting[0].due <= performance.now()) {
          to.write((waiting.shift() as { data: Buffer }).data)
        }
        const [next] = waiting
        if (next !== undefined) setTimeout(flush, Math.ceil(next.due - performance.now()))
      }
      from.on('data', data => {
        waiting.push({ due: performance.now() + this.milliseconds, data })
        if (waiting.length === 1) flush()
      })
      from.on('error', () => {})
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroy()
      })
    }
  }
}
