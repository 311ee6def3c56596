// @ts-check
// Heartbeats by the server's own means: what one costs, and whether a busy stream gets any.
import { setTimeout as sleep } from 'node:timers/promises'

const INTERVAL = 1000

/** @type {import('./index.js').Workload} */
export const heartbeat = {
  rows: {
    heartbeat: 'heartbeat to {many} quiet streams: CPU µs each',
    'heartbeat-busy':
      'heartbeats to one of {many} streams that has two entries in each interval: count an interval',
  },
  settings: { ping: INTERVAL },
  isSlow: true,

  async run(pair, { many, beats }, report) {
    await pair.grow(many)
    // So that there is an id, which some send with each heartbeat.
    await pair.publish({ count: 1, lot: 1 })
    // Those that were just written to may be left out of the first ones.
    await sleep(2.5 * INTERVAL)
    report('heartbeat', await costOf(pair, beats))
    // First so that each is busy already when the counting begins.
    await publishMeanwhile(pair, 1)
    report('heartbeat-busy', (await publishMeanwhile(pair, beats)) / many / beats)
  },
}

/** @param {import('../parts/pair.js').Pair} pair @param {number} count */
async function costOf({ client, server, seq }, count) {
  await client.ask('lull', { most: INTERVAL })
  await client.ask('begin', { from: seq, withBeats: true })
  const before = await server.ask('usage')
  await sleep(count * INTERVAL)
  // Timers of each stream's own never pause all at once; then a few of thousands are counted wrong.
  await client.ask('lull', { most: INTERVAL })
  const after = await server.ask('usage')
  const { all, least, most } = await client.ask('beats')
  if (least < count - 1 || most > count + 3) {
    throw new Error(`a stream got ${least} heartbeats and another ${most}, instead of ${count}`)
  }
  return (after.cpu - before.cpu) / all
}

/** How many heartbeats come in so many intervals. @param {import('../parts/pair.js').Pair} pair @param {number} count */
async function publishMeanwhile(pair, count) {
  const { client, server, streams, seq: from } = pair
  const entries = 2 * count
  pair.seq += entries
  await client.ask('begin', { from, withBeats: true })
  await server.ask('publishSteadily', { from, count: entries, every: INTERVAL / 2 })
  const { all } = await client.ask('beats')
  await client.ask('until', { count: entries * streams })
  return all
}
