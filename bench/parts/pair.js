// @ts-check
// A server and a client, and what every workload does with them.
import { Worker } from './worker.js'

/**
 * @typedef Work
 * @property {number} count of entries
 * @property {number} lot so many must be with every client before the next ones are published
 * @property {number} [perTurn] how many of them in one turn of the event loop
 * @property {'everyone' | 'client' | 'channel'} [to] one of the groups in turn, or everyone
 * @property {number} [groups] how many there are
 * @property {number} [size] of each one's text
 */

export class Pair {
  streams = 0
  /** The number of the next entry. */
  seq = 1

  /** @param {Worker} server @param {Worker} client @param {import('./worker.js').Facts} facts */
  constructor(server, client, facts) {
    this.server = server
    this.client = client
    this.facts = facts
  }

  /**
   * In fresh processes, so that nothing is inherited.
   *
   * @param {string} name @param {object} settings @param {(pair: Pair) => Promise<void>} workload
   */
  static async with(name, settings, workload) {
    // nginx is the server then, and what starts it only publishes.
    const server = new Worker(
      `servers/${name}.js`,
      name === 'nchan' ? 'client' : 'server',
      settings,
    )
    const client = new Worker('parts/client.js', 'client')
    try {
      const [facts] = await Promise.all([server.ready, client.ready])
      await workload(new Pair(server, client, facts))
    } finally {
      // First, so that it does not spend its last moments on reporting thousands of lost connections.
      await server.end()
      await client.end()
    }
  }

  /** Until there are so many streams. @param {number} count @param {object} [request] */
  async grow(count, request) {
    await this.client.ask('connect', { port: this.facts.port, count, ...request })
    this.streams = count
  }

  /** µs of the server's process while something is done. @param {() => Promise<unknown>} work */
  async cpuOf(work) {
    const before = await this.server.ask('usage')
    await work()
    const after = await this.server.ask('usage')
    return after.cpu - before.cpu
  }

  /** Sends them, and has the client check each. µs of the server's process. @param {Work} work */
  async publish({ count, lot, perTurn = lot, to = 'everyone', groups = 1, size }) {
    const each = this.reach(to, groups)
    await this.client.ask('begin', { from: this.seq, groups })
    return this.cpuOf(async () => {
      for (let done = lot; done <= count; done += lot) {
        const all = this.client.ask('until', { count: done * each })
        this.server.tell('publish', { from: this.seq, count: lot, perTurn, to, groups, size })
        this.seq += lot
        await all
      }
    })
  }

  /**
   * CPU µs a delivery, after a quarter of the work that only warms up.
   *
   * @param {number} deliveries roughly @param {Omit<Work, 'count'>} work
   */
  async costOf(deliveries, work) {
    const each = this.reach(work.to, work.groups)
    const lots = Math.max(2, Math.round(deliveries / each / work.lot))
    await this.publish({ ...work, count: Math.ceil(lots / 4) * work.lot })
    const count = lots * work.lot
    return (await this.publish({ ...work, count })) / (count * each)
  }

  /** How many streams get one entry. @param {Work['to']} to @param {number} [groups] */
  reach(to = 'everyone', groups = 1) {
    return to === 'everyone' ? this.streams : this.streams / groups
  }
}
