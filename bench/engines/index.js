// @ts-check
// Several processes on one log: how fast entries are read, how much latency an engine adds to that of
// the memory log, and how much work the engine has when all clients reconnect.
import { monotonic } from '../parts/event.js'
import { Worker } from '../parts/worker.js'
import { openHub } from './logs.js'
import { isHere, withService } from './service.js'

export const ENGINES = [
  { file: 'memory', title: 'memory' },
  { file: 'redis', title: 'Redis, `redis`', service: 'redis' },
  { file: 'ioredis', title: 'Redis, `ioredis`', service: 'redis' },
  // NATS pushes before the receiver can read, so reading cannot be separated from appending.
  { file: 'nats', title: 'NATS', service: 'nats', pushes: true },
  { file: 'postgres', title: 'PostgreSQL, fsync off', service: 'postgres' },
  // Not on an older Node, which has none; the table then lacks its column.
  ...(isHere('sqlite') ? [{ file: 'sqlite', title: 'SQLite', service: 'sqlite' }] : []),
  { file: 'cluster', title: 'cluster' },
]

/** @type {Record<string, string>} */
export const ENGINE_ROWS = {
  'fan-in': 'fan-in, entries of 200 bytes: thousands per second of CPU',
  'fan-in-clock': 'the same: thousands per second of wall-clock time',
  'engine-cpu': 'an entry appended, and read by two processes: CPU µs of the engine',
  'engine-read': 'of these, for one of the two readers',
  'steady-cpu':
    '1,000 entries a second to 10 streams: CPU µs per entry in the process with the streams',
  'steady-engine': 'the same: CPU µs of the engine per entry, read by two processes',
  'engine-p50': 'latency p50, 1,000 entries a second to 10 streams: ms',
  'engine-p99': 'latency p99, 1,000 entries a second to 10 streams: ms',
  'storm-known': '{stormy} reconnects with a cursor in the window: questions to the engine',
  'storm-known-cpu': 'the same: CPU µs per reconnect',
  'storm-unknown': '{stormy} reconnects with a cursor outside the window: questions to the engine',
  'storm-unknown-cpu': 'the same: CPU µs per reconnect',
  'entry-bytes': 'size of a 200-byte entry in the engine: bytes',
}

/** Published while the receiver is stopped, so that it then never waits for more. */
const LOT = 20_000
const LOTS = 5
const STREAMS = 10
const PER_SECOND = 1000

/**
 * One round of one engine.
 *
 * @param {typeof ENGINES[number]} engine @param {{ stormy: number, seconds: number }} plan
 * @param {(metric: string, value: number) => void} report
 */
export async function measureEngine(
  { file, service = '', pushes = false },
  { stormy, seconds },
  report,
) {
  if (!isHere(service)) throw new Error(`${service}-server is not installed`)
  await withService(service, async (address, engineCpu) => {
    const isCluster = file === 'cluster'
    if (isCluster) openHub()
    const settings = { engine: file, address }
    const start = (/** @type {'server' | 'client'} */ part) =>
      new Worker('engines/member.js', part, settings, isCluster)
    const receiver = start('server')
    // The memory log belongs to one process.
    const publisher = file === 'memory' ? receiver : start('client')
    try {
      const [{ port }] = await Promise.all([receiver.ready, publisher.ready])
      const count = seconds * PER_SECOND
      await latency({ receiver, publisher, port, count, engineCpu }, report)
      if (file === 'memory') return
      await fanIn({ receiver, publisher, engineCpu, pushes }, report)
      await storms(receiver, publisher, port, stormy, report)
      const bytes = await publisher.ask('bytesOfEntry')
      if (bytes !== undefined) report('entry-bytes', bytes)
    } finally {
      await receiver.end()
      await publisher.end()
    }
  })
}

/**
 * @param {object} parts
 * @param {Worker} parts.receiver @param {Worker} parts.publisher @param {number} parts.port
 * @param {number} parts.count @param {() => number} parts.engineCpu
 * @param {(metric: string, value: number) => void} report
 */
function latency({ receiver, publisher, port, count, engineCpu }, report) {
  return withClient(async client => {
    await client.ask('connect', { port, count: STREAMS })
    let from = 1
    for (const some of [PER_SECOND / 2, count]) {
      await client.ask('begin', { from, timed: true })
      const all = client.ask('until', { count: some * STREAMS })
      const cpu = await receiver.ask('count')
      const engine = engineCpu()
      const steady = { from, count: some, perSecond: PER_SECOND }
      const times = await publisher.ask('publishSteadily', steady)
      await all
      const engineAfter = engineCpu()
      const cpuAfter = await receiver.ask('count')
      from += some
      // The first entries only warm up.
      if (some !== count) continue
      const { p50, p99 } = await client.ask('delays', { times })
      report('engine-p50', p50)
      report('engine-p99', p99)
      report('steady-cpu', (cpuAfter - cpu) / count)
      // Only Linux reports it, and the memory log has no engine.
      if (Number.isFinite(engine) && publisher !== receiver) {
        report('steady-engine', (engineAfter - engine) / count)
      }
    }
  })
}

/**
 * @param {{ receiver: Worker, publisher: Worker, engineCpu: () => number, pushes: boolean }} parts
 * @param {(metric: string, value: number) => void} report
 */
async function fanIn({ receiver, publisher, engineCpu, pushes }, report) {
  let cpu = 0
  let clock = 0
  let engine = 0
  let read = 0
  for (let lot = 0; lot <= LOTS; lot += 1) {
    const before = await receiver.ask('count')
    const engineBefore = engineCpu()
    receiver.kill('SIGSTOP')
    try {
      await publisher.ask('send', { count: LOT })
    } finally {
      receiver.kill('SIGCONT')
    }
    const start = monotonic()
    const engineBetween = engineCpu()
    const after = await receiver.ask('until', { count: LOT })
    // The first lot only warms up.
    if (lot === 0) continue
    cpu += after.cpu - before
    clock += after.at - start
    const engineAfter = engineCpu()
    engine += engineAfter - engineBefore
    read += engineAfter - engineBetween
  }
  report('fan-in', (LOT * LOTS) / (cpu / 1000))
  report('fan-in-clock', (LOT * LOTS) / clock)
  // Only Linux reports it.
  if (Number.isFinite(engine)) {
    report('engine-cpu', engine / LOT / LOTS)
    if (!pushes) report('engine-read', read / LOT / LOTS)
  }
  const { gaps, window } = await receiver.ask('stats')
  if (gaps > 0 || window.events < 10_000) throw new Error('the receiver lost entries')
}

/**
 * @param {Worker} receiver @param {Worker} publisher @param {number} port @param {number} stormy
 * @param {(metric: string, value: number) => void} report
 */
async function storms(receiver, publisher, port, stormy, report) {
  await receiver.ask('count')
  const known = await publisher.ask('send', { count: 1 })
  await receiver.ask('until', { count: 1 })
  // Looks like an id of this log at the same position, but was never assigned.
  const unknown = known.slice(0, -1) + (known.endsWith('A') ? 'B' : 'A')
  for (const [metric, lastEventId] of [
    ['storm-known', known],
    ['storm-unknown', unknown],
  ]) {
    await withClient(async client => {
      const before = await receiver.ask('stats')
      const asked = await receiver.ask('asked')
      const cpu = await receiver.ask('count')
      await client.ask('connect', { port, count: stormy, lastEventId })
      report(`${metric}-cpu`, ((await receiver.ask('count')) - cpu) / stormy)
      report(metric, (await receiver.ask('asked')) - asked)
      report('storm-streams', stormy)
      // The last streams wait a few milliseconds for the next question to the engine.
      let now = await receiver.ask('stats')
      while (now.parked > 0) now = await receiver.ask('stats')
      const { replays, gaps } = now
      const decided = metric === 'storm-known' ? replays - before.replays : gaps - before.gaps
      if (decided !== stormy)
        throw new Error(`only ${decided} of ${stormy} streams were resumed or got a gap`)
    })
  }
}

/** @param {(client: Worker) => Promise<void>} work */
async function withClient(work) {
  const client = new Worker('parts/client.js', 'client')
  try {
    await client.ready
    await work(client)
  } finally {
    await client.end()
  }
}
