// @ts-check
// A server and a client, with the operations that workloads use.
import { Worker } from './worker.js'

/**
 * @typedef Work
 * @property {number} count number of entries
 * @property {number} lot entries that every client must have before the next ones are published
 * @property {number} [perTurn] entries in one turn of the event loop
 * @property {'everyone' | 'client' | 'channel'} [to] everyone, or one client or channel in turn
 * @property {number} [groups] number of clients or channels
 * @property {number} [size] of each entry's text
 * @property {number} [items] each entry is an order of that many items
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
   * Uses fresh processes, so that no state carries over.
   *
   * @param {string} name @param {object} settings @param {(pair: Pair) => Promise<void>} workload
   */
  static async with(name, settings, workload) {
    // For nchan, nginx is the server, and the process that starts it only publishes.
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
      // The server ends first, or it would spend its time reporting thousands of lost connections.
      await server.end()
      await client.end()
    }
  }

  /** Connects until there are that many streams. @param {number} count @param {object} [request] */
  async grow(count, request) {
    const { port, path } = this.facts
    await this.client.ask('connect', { port, path, count, ...request })
    this.streams = count
  }

  /** CPU time of the server's process during `work`, in µs. @param {() => Promise<unknown>} work */
  async cpuOf(work) {
    const before = await this.server.ask('usage')
    await work()
    const after = await this.server.ask('usage')
    return after.cpu - before.cpu
  }

  /** Sends the entries and lets the client check each. Returns the server's CPU time in µs. @param {Work} work */
  async publish({ count, lot, perTurn = lot, to = 'everyone', groups = 1, size, items }) {
    const each = this.reach(to, groups)
    await this.client.ask('begin', { from: this.seq, groups })
    return this.cpuOf(async () => {
      for (let done = lot; done <= count; done += lot) {
        const all = this.client.ask('until', { count: done * each })
        const what = { size, items }
        this.server.tell('publish', { from: this.seq, count: lot, perTurn, to, groups, ...what })
        this.seq += lot
        await all
      }
    })
  }

  /**
   * CPU time per delivery in µs, after a warm-up with a quarter of the work.
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

  /** The number of streams that get one entry. @param {Work['to']} to @param {number} [groups] */
  reach(to = 'everyone', groups = 1) {
    return to === 'everyone' ? this.streams : this.streams / groups
  }
}
