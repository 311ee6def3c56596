// @ts-check
// What is measured of runs. Entries are about 80 bytes, as tokens are, except in the fan-out.

/** The length of an entry's text. */
const SIZE = 4
/** Runs with one reader each, and readers of one run. */
const MANY = 1000
/** A model's speed, and the runs and seconds at that speed. */
const PER_SECOND = 100
const STEADY = { runs: 20, perRun: 200 }
const ENTRIES = 10_000

/**
 * @typedef {import('../parts/pair.js').Pair} Pair
 * @typedef {(metric: string, value: number) => void} Report
 * @typedef {Awaited<ReturnType<import('./redis.js').watchRedis>>} Redis
 *
 * @typedef Workload
 * @property {Record<string, string>} rows of the table, by metric
 * @property {Partial<import('../parts/host.js').Settings>} [settings]
 * @property {(pair: Pair, report: Report, redis: Redis | undefined) => Promise<void>} run
 */

/** @type {Workload} */
const append = {
  rows: {
    'run-append': 'one producer that awaits each append: CPU µs per append',
    'run-append-clock': 'the same: thousands of appends per second (higher is better)',
    'run-append-redis': 'the same: CPU µs of Redis per append',
  },
  async run({ server }, report, redis) {
    const count = 20_000
    await server.ask('appendAll', { id: '0', from: 1, count: count / 4, size: SIZE })
    const before = await redis?.read()
    const work = { id: '0', from: 1 + count / 4, count, size: SIZE }
    const { cpu, clock } = await server.ask('appendAll', work)
    const after = await redis?.read()
    report('run-append', cpu / count)
    report('run-append-clock', (count * 1000) / clock)
    if (before && after) report('run-append-redis', (after.cpu - before.cpu) / count)
  },
}

/** Also for a pool's broadcast, which has no runs to start. @type {Workload} */
const fanOut = {
  rows: {
    'run-fan-out': 'one run with 1,000 readers, one entry at a time: CPU µs per delivery',
  },
  async run(pair, report) {
    await pair.server.ask('start', { runs: 1 })
    await pair.grow(MANY, { runs: pair.facts.hasRuns ? 1 : undefined })
    report('run-fan-out', await pair.costOf(60_000, { lot: 1 }))
  },
}

/** @type {Workload} */
const single = {
  rows: {
    'run-single': '1,000 runs with a reader each, 5 entries per run at a time: CPU µs per entry',
  },
  async run(pair, report) {
    await pair.server.ask('start', { runs: MANY })
    await pair.grow(MANY)
    const work = { to: /** @type {'client'} */ ('client'), groups: MANY, lot: 5 * MANY }
    report('run-single', await pair.costOf(40_000, { ...work, perTurn: 100, size: SIZE }))
  },
}

/** @type {Workload} */
const steady = {
  rows: {
    'run-steady-1': '20 runs at 100 entries a second, a reader each: CPU µs per entry',
    'run-sent-1': 'the same: commands sent to Redis per entry',
    'run-run-1': 'the same: commands run by Redis per entry, with those in scripts',
    'run-redis-1': 'the same: CPU µs of Redis per entry',
    'run-p50-1': 'the same: latency p50 in ms',
    'run-p99-1': 'the same: latency p99 in ms',
  },
  run: (pair, report, redis) => produceSteadily(1, pair, report, redis),
}

/** @type {Workload} */
const steadyMany = {
  rows: {
    'run-steady-10': '20 runs at 100 entries a second, 10 readers each: CPU µs per entry',
    'run-sent-10': 'the same: commands sent to Redis per entry',
    'run-redis-10': 'the same: CPU µs of Redis per entry',
  },
  run: (pair, report, redis) => produceSteadily(10, pair, report, redis),
}

/** @param {number} readers of each run @param {Pair} pair @param {Report} report @param {Redis} [redis] */
async function produceSteadily(readers, pair, report, redis) {
  const { client, server } = pair
  const { runs, perRun } = STEADY
  await server.ask('start', { runs })
  await pair.grow(runs * readers, { runs })
  await produce(20)
  const before = await redis?.read()
  const usage = await server.ask('usage')
  const times = await produce(perRun)
  const { cpu } = await server.ask('usage')
  const after = await redis?.read()
  report(`run-steady-${readers}`, (cpu - usage.cpu) / runs / perRun)
  if (before && after) {
    for (const figure of /** @type {('sent' | 'run' | 'cpu')[]} */ (['sent', 'run', 'cpu'])) {
      const row = figure === 'cpu' ? 'redis' : figure
      report(`run-${row}-${readers}`, (after[figure] - before[figure]) / runs / perRun)
    }
  }
  const { p50, p99 } = await client.ask('delays', { times })
  report(`run-p50-${readers}`, p50)
  report(`run-p99-${readers}`, p99)

  /** Answers the time of each append. @param {number} each entries of each run */
  async function produce(each) {
    const from = pair.seq
    pair.seq += runs * each
    await client.ask('begin', { from, groups: runs, timed: true })
    const work = { runs, from, perRun: each, perSecond: PER_SECOND, size: SIZE }
    const [produced] = await Promise.all([
      server.ask('produce', work),
      client.ask('until', { count: each * pair.streams }),
    ])
    return produced
  }
}

/** @type {Workload} */
const join = {
  rows: {
    'run-join': 'late join to a run of 10,000 entries, the first reader: CPU ms per join',
    'run-join-writes': 'the same: writes per join',
    'run-join-next': 'late join to the same run, 40 more readers: CPU ms per join',
    'run-join-next-writes': 'the same: writes per join',
  },
  settings: { countsWrites: true },
  async run(pair, report) {
    const { client, server } = pair
    const runs = 20
    const next = 40
    await server.ask('start', { runs: runs + 1, entries: ENTRIES, size: SIZE })
    // The first run only warms up; stream 1 reads run 1.
    await read(1, { path: pathOf(0) })
    await joinAll('run-join', runs, { path: pathOf('{id}') })
    await joinAll('run-join-next', next, { path: pathOf(1) })

    /** @param {string} metric @param {number} count @param {object} request */
    async function joinAll(metric, count, request) {
      const before = await server.ask('writes')
      const cpu = await pair.cpuOf(async () => {
        // In steps, because resumable-stream gives up when a reply takes a second.
        for (let done = 0; done < count; done += 10) await read(10, request)
      })
      report(metric, cpu / count / 1000)
      if (before !== undefined) {
        report(`${metric}-writes`, ((await server.ask('writes')) - before) / count)
      }
    }

    /** @param {number} count @param {object} request */
    async function read(count, request) {
      await client.ask('begin', { from: 1 })
      const all = client.ask('until', { count: count * ENTRIES })
      await Promise.all([all, pair.grow(pair.streams + count, request)])
    }

    /** @param {string | number} id */
    function pathOf(id) {
      return (pair.facts.path ?? '/?id={id}').replace('{id}', String(id))
    }
  },
}

/** @type {Workload} */
const memory = {
  rows: {
    'run-heap': 'memory of an open run without entries, of 1,000: KB of V8 heap and buffers',
    'run-heap-100': 'the same with 100 entries of about 80 bytes',
    'run-heap-reader': 'the same with a reader that has read them: KB more',
    'run-rss-reader': 'the same reader: KB of resident memory more',
  },
  async run(pair, report) {
    const { client, server } = pair
    const entries = 100
    await server.ask('start', { runs: 1 })
    // The first request loads code.
    await pair.grow(1, { runs: 1 })
    const used = () => server.ask('usage', { collect: true })
    const empty = await used()
    await server.ask('start', { runs: MANY })
    const open = await used()
    report('run-heap', (open.heap - empty.heap) / (MANY - 1) / 1000)
    await client.ask('begin', { from: 1 })
    await server.ask('start', { runs: MANY, entries, size: SIZE })
    await client.ask('until', { count: entries })
    const filled = await used()
    report('run-heap-100', (filled.heap - empty.heap) / (MANY - 1) / 1000)
    await client.ask('begin', { from: 1 })
    const all = client.ask('until', { count: (MANY - 1) * entries })
    await Promise.all([all, pair.grow(MANY, { runs: MANY })])
    const read = await used()
    report('run-heap-reader', (read.heap - filled.heap) / (MANY - 1) / 1000)
    report('run-rss-reader', (read.rss - filled.rss) / (MANY - 1) / 1000)
  },
}

/** @type {Record<string, Workload>} */
export const RUN_WORKLOADS = { append, fanOut, single, steady, steadyMany, join, memory }
