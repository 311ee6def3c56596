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
    const { client } = pair
    await pair.grow(many)
    // So that there is an id, which some send with each heartbeat.
    await pair.publish({ count: 1, lot: 1 })
    // Those that were just written to may be left out of the first ones.
    await sleep(2.5 * INTERVAL)
    report('heartbeat', await costOf(pair, beats))
    const { all } = await publishMeanwhile(pair, beats)
    report('heartbeat-busy', all / many / beats)
    await client.ask('until', { count: 2 * beats * many })
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

/** @param {import('../parts/pair.js').Pair} pair @param {number} count */
async function publishMeanwhile(pair, count) {
  const work = { from: pair.seq, count: 2 * count, every: INTERVAL / 2 }
  await pair.client.ask('begin', { from: pair.seq, withBeats: true })
  pair.seq += work.count
  await pair.server.ask('publishSteadily', work)
  return pair.client.ask('beats')
}
