/** The way to an engine, which can be slow, lose the replies, and be gone and come back. */
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'

export class Link {
  readonly port: number
  /** How long each piece of data takes, both ways. */
  milliseconds = 0
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()
  #target: number
  #isGone = false
  #isDeaf = false

  static async to(port: number): Promise<Link> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Link(server, port)
  }

  private constructor(server: net.Server, port: number) {
    this.#server = server
    this.#target = port
    this.port = (server.address() as AddressInfo).port
    server.on('connection', near => {
      if (this.#isGone) near.destroy()
      else this.#join(near, net.connect(this.#target, '127.0.0.1'))
    })
  }

  get isUp(): boolean {
    return !this.#isGone && !this.#isDeaf
  }

  /** Cuts all connections and accepts none. */
  goAway(): void {
    this.#isGone = true
    this.cut()
  }

  /** Leads to another port from now on, as an address does after a failover. */
  leadTo(port: number): void {
    this.#target = port
    this.cut()
  }

  /** The engine still gets everything, but its replies are lost. */
  goDeaf(): void {
    this.#isDeaf = true
  }

  comeBack(): void {
    this.#isGone = false
    // A connection that has lost a reply is of no more use.
    if (this.#isDeaf) this.cut()
  }

  /** Cuts all connections. */
  cut(): void {
    this.#isDeaf = false
    for (const socket of this.#sockets) socket.destroy()
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
        if (this.#isDeaf && from === far) return
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
