// @ts-check
// Several processes on one log: how fast it is taken in, how much later an event arrives than with
// the memory log, and what the engine has to do when everybody comes back.
import { monotonic } from '../parts/event.js'
import { Worker } from '../parts/worker.js'
import { openHub } from './logs.js'
import { isHere, withService } from './service.js'

export const ENGINES = [
  { file: 'memory', title: 'memory' },
  { file: 'redis', title: 'Redis, `redis`', service: 'redis' },
  { file: 'ioredis', title: 'Redis, `ioredis`', service: 'redis' },
  // It pushes what the receiver cannot take yet, so reading is not told from appending.
  { file: 'nats', title: 'NATS', service: 'nats', pushes: true },
  { file: 'cluster', title: 'cluster' },
]

/** @type {Record<string, string>} */
export const ENGINE_ROWS = {
  'fan-in': 'fan-in of entries of 200 bytes: thousands for a second of CPU',
  'fan-in-clock': 'the same, thousands a second by the clock',
  'engine-cpu': 'the engine’s own CPU µs for an entry that is appended, and read by two processes',
  'engine-read': 'of these, for one of the two that read it',
  'steady-cpu':
    '1,000 entries a second to 10 streams: CPU µs an entry in the process that has them',
  'steady-engine': 'the same: the engine’s own CPU µs an entry, read by two processes',
  'engine-p50': 'latency p50, 1,000 entries a second to 10 streams: ms',
  'engine-p99': 'latency p99, 1,000 entries a second to 10 streams: ms',
  'storm-known': '{stormy} come back with a cursor in the window: questions to the engine',
  'storm-known-cpu': 'the same: CPU µs a stream that comes back',
  'storm-unknown': '{stormy} come back with a cursor that is not: questions to the engine',
  'storm-unknown-cpu': 'the same: CPU µs a stream that comes back',
  'entry-bytes': 'an entry of 200 bytes in the engine: bytes',
}

/** Published while the receiver stands still, so that it then has as much as it can take. */
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
  if (!isHere(service)) throw new Error(`${service}-server is not there`)
  await withService(service, async (address, engineCpu) => {
    const isCluster = file === 'cluster'
    if (isCluster) openHub()
    const settings = { engine: file, address }
    const start = (/** @type {'server' | 'client'} */ part) =>
      new Worker('engines/member.js', part, settings, isCluster)
    const receiver = start('server')
    // The memory log is one process's own.
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
      // The first ones only warm up.
      if (some !== count) continue
      const { p50, p99 } = await client.ask('delays', { times })
      report('engine-p50', p50)
      report('engine-p99', p99)
      report('steady-cpu', (cpuAfter - cpu) / count)
      // Only Linux tells; and the memory log has no engine.
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
    // The first one only warms up.
    if (lot === 0) continue
    cpu += after.cpu - before
    clock += after.at - start
    const engineAfter = engineCpu()
    engine += engineAfter - engineBefore
    read += engineAfter - engineBetween
  }
  report('fan-in', (LOT * LOTS) / (cpu / 1000))
  report('fan-in-clock', (LOT * LOTS) / clock)
  // Only Linux tells.
  if (Number.isFinite(engine)) {
    report('engine-cpu', engine / LOT / LOTS)
    if (!pushes) report('engine-read', read / LOT / LOTS)
  }
  const { gaps, window } = await receiver.ask('stats')
  if (gaps > 0 || window.events < 10_000) throw new Error('the receiver has lost entries')
}

/**
 * @param {Worker} receiver @param {Worker} publisher @param {number} port @param {number} stormy
 * @param {(metric: string, value: number) => void} report
 */
async function storms(receiver, publisher, port, stormy, report) {
  await receiver.ask('count')
  const known = await publisher.ask('send', { count: 1 })
  await receiver.ask('until', { count: 1 })
  // Of this log by its look, and of the same place in it, but never given to anybody.
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
      // The last of them wait for the next question to the engine, some milliseconds.
      let now = await receiver.ask('stats')
      while (now.parked > 0) now = await receiver.ask('stats')
      const { replays, gaps } = now
      const decided = metric === 'storm-known' ? replays - before.replays : gaps - before.gaps
      if (decided !== stormy) throw new Error(`${decided} of ${stormy} were told where they go on`)
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
