// @ts-check
// The time from publish to arrival at a steady pace, read from one clock (CLOCK_MONOTONIC).

const PER_SECOND = 10
const WARM_UP = 10

/** @type {import('./index.js').Workload} */
export const latency = {
  rows: {
    p50: 'latency p50, 1,000 streams with 10 entries a second each: ms',
    p99: 'latency p99, 1,000 streams with 10 entries a second each: ms',
  },

  async run(pair, { seconds }, report) {
    await pair.grow(1000)
    await publish(pair, WARM_UP)
    const times = await publish(pair, seconds * PER_SECOND)
    const { p50, p99 } = await pair.client.ask('delays', { times })
    report('p50', p50)
    report('p99', p99)
  },
}

/** @param {import('../parts/pair.js').Pair} pair @param {number} count */
async function publish(pair, count) {
  const from = pair.seq
  pair.seq += count
  await pair.client.ask('begin', { from, timed: true })
  const all = pair.client.ask('until', { count: count * pair.streams })
  const times = await pair.server.ask('publishSteadily', { from, count, every: 1000 / PER_SECOND })
  await all
  return times
}
