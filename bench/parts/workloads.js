// @ts-check
// What is measured, one round of one server: fresh processes, so that nothing is inherited.
import { Worker } from './worker.js'

/**
 * @typedef Plan
 * @property {number} many streams of the large workloads
 * @property {number} most streams under which the event loop is looked at
 * @property {number} deliveries how many a figure is made of, roughly
 *
 * @typedef {(metric: string, value: number) => void} Report
 */

/** Text of an event in the stalled workload, and how many make 50 MB. */
const LARGE = { size: 10_000, count: 5000 }

/** How each row of the table is called. */
export const METRICS = {
  'one-100': 'broadcast to 100, one entry at a time: CPU µs a delivery',
  'one-1000': 'broadcast to 1,000, one entry at a time: CPU µs a delivery',
  'one-many': 'broadcast to {many}, one entry at a time: CPU µs a delivery',
  'burst-4': 'burst of 4 entries in a turn to 1,000: CPU µs a delivery',
  'burst-16': 'burst of 16 entries in a turn to 1,000: CPU µs a delivery',
  flood: 'as fast as possible, an entry a turn to 1,000: CPU µs a delivery',
  send: 'targeted, to one of {many} ids: CPU µs a send',
  delay: 'event-loop delay p99, broadcasts to {most}: ms',
  connect: 'connecting {many}: CPU µs a stream',
  'rss-1000': 'idle stream, of 1,000, after GC: KB of resident memory',
  'rss-many': 'idle stream, of {many}, after GC: KB of resident memory',
  'heap-many': 'idle stream, of {many}, after GC: KB of V8 heap and buffers',
  stalled: 'a client that never reads while 50 MB are published: MB of growth',
}

/** @param {string} server @param {Plan} plan @param {boolean} withMemory @param {Report} report */
export async function measure(server, plan, withMemory, report) {
  await withServer(server, traffic, plan, report)
  if (!withMemory) return
  await withServer(server, idle, plan, report)
  await withServer(server, stalled, plan, report)
}

/** @typedef {{ server: Worker, client: Worker, port: number, canSend: boolean }} Pair */

/**
 * @param {string} name
 * @param {(pair: Pair, plan: Plan, report: Report) => Promise<void>} workload
 * @param {Plan} plan @param {Report} report
 */
async function withServer(name, workload, plan, report) {
  const server = new Worker(`servers/${name}.js`, name === 'nchan' ? 'client' : 'server')
  const client = new Worker('parts/client.js', 'client')
  try {
    const [{ ready: port, canSend = false }] = await Promise.all([server.ready, client.ready])
    await workload({ server, client, port, canSend }, plan, report)
  } finally {
    // First, so that it does not spend its last moments on reporting thousands of lost connections.
    await server.end()
    await client.end()
  }
}

/** @param {Pair} pair @param {Plan} plan @param {Report} report */
async function traffic({ server, client, port, canSend }, plan, report) {
  const { many, most, deliveries } = plan
  let seq = 1
  let streams = 0
  const grow = async (/** @type {number} */ count) => {
    await client.ask('connect', { port, count })
    streams = count
  }

  /**
   * So many entries, of which each lot must be with every client before the next one begins.
   *
   * @param {{ command?: string, count: number, lot: number, perTurn: number }} work
   */
  const run = async ({ command = 'publish', count, lot, perTurn }) => {
    const targeted = command === 'send'
    await client.ask('begin', { from: seq, targeted })
    const before = await server.ask('usage')
    for (let done = lot; done <= count; done += lot) {
      const all = client.ask('until', { count: targeted ? done : done * streams })
      server.tell(command, { from: seq, count: lot, perTurn, clients: streams })
      seq += lot
      await all
    }
    const after = await server.ask('usage')
    return (after.cpu - before.cpu) / (targeted ? count : count * streams)
  }

  /**
   * The same, after a quarter of it that only warms up.
   *
   * @param {string} metric @param {{ command?: string, lot: number, perTurn: number }} work
   */
  const figure = async (metric, { command, lot, perTurn }) => {
    const each = command === 'send' ? 1 : streams
    const lots = Math.max(2, Math.round(deliveries / each / lot))
    const work = { ...(command ? { command } : {}), lot, perTurn }
    await run({ ...work, count: Math.ceil(lots / 4) * lot })
    report(metric, await run({ ...work, count: lots * lot }))
  }

  await grow(100)
  await figure('one-100', { lot: 1, perTurn: 1 })
  await grow(1000)
  await figure('one-1000', { lot: 1, perTurn: 1 })
  await figure('burst-4', { lot: 4, perTurn: 4 })
  await figure('burst-16', { lot: 16, perTurn: 16 })
  await figure('flood', { lot: 32, perTurn: 1 })
  if (many > 1000) {
    await grow(many)
    await figure('one-many', { lot: 1, perTurn: 1 })
  }
  if (canSend) await figure('send', { command: 'send', lot: 1000, perTurn: 10 })
  await grow(most)
  await run({ count: 3, lot: 1, perTurn: 1 })
  await server.ask('startDelay')
  await run({ count: 10, lot: 1, perTurn: 1 })
  const delay = await server.ask('stopDelay')
  if (delay !== undefined) report('delay', delay)
}

/** @param {Pair} pair @param {Plan} plan @param {Report} report */
async function idle({ server, client, port }, { many }, report) {
  // One for what only the first request loads.
  await client.ask('connect', { port, count: 1 })
  const collect = true
  const empty = await server.ask('usage', { collect })
  let { cpu } = empty
  for (const count of new Set([1000, many])) {
    await client.ask('connect', { port, count: count + 1 })
    const open = await server.ask('usage')
    if (count === many) report('connect', (open.cpu - cpu) / (many > 1000 ? many - 1000 : many))
    const quiet = await server.ask('usage', { collect })
    cpu = quiet.cpu
    if (count === 1000) report('rss-1000', (quiet.rss - empty.rss) / count / 1000)
    if (count === many && many > 1000) {
      report('rss-many', (quiet.rss - empty.rss) / count / 1000)
    }
    if (count === many && quiet.heap !== undefined) {
      report('heap-many', (quiet.heap - empty.heap) / count / 1000)
    }
  }
}

/** @param {Pair} pair @param {Plan} _plan @param {Report} report */
async function stalled({ server, client, port }, _plan, report) {
  const { size, count } = LARGE
  let from = 1
  const publish = async () => {
    await client.ask('begin', { from })
    for (let done = 10; done <= count; done += 10) {
      const all = client.ask('until', { count: done })
      server.tell('publish', { from, count: 10, perTurn: 10, size })
      from += 10
      await all
    }
    return server.ask('usage', { collect: true })
  }
  await client.ask('connect', { port, count: 1 })
  // Once without it: what a server keeps for a history, or has grown to, is not the client's doing.
  const before = await publish()
  await client.ask('stall', { port })
  const after = await publish()
  report('stalled', (after.rss - before.rss) / 1e6)
}
