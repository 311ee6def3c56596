// @ts-check
// Heartbeats sent by the server's own timer: the cost of one, and whether a busy stream gets any.
import { setTimeout as sleep } from 'node:timers/promises'

const INTERVAL = 1000

/** @type {import('./index.js').Workload} */
export const heartbeat = {
  rows: {
    heartbeat: 'heartbeat to {many} quiet streams: CPU µs each',
    'heartbeat-busy':
      'heartbeats to each of {many} streams that get two entries per interval: count per interval',
  },
  settings: { ping: INTERVAL },
  isSlow: true,

  async run(pair, { many, beats }, report) {
    await pair.grow(many)
    // Some servers send the newest id with each heartbeat, so there must be one.
    await pair.publish({ count: 1, lot: 1 })
    // Streams that were just written to may get no heartbeat at first.
    await sleep(2.5 * INTERVAL)
    report('heartbeat', await costOf(pair, beats))
    // The first call makes every stream busy before the counting starts.
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
  // With a timer per stream there is never a lull; a few of the thousands are then miscounted.
  await client.ask('lull', { most: INTERVAL })
  const after = await server.ask('usage')
  const { all, least, most } = await client.ask('beats')
  if (least < count - 1 || most > count + 3) {
    throw new Error(`one stream got ${least} heartbeats and another ${most}; expected ${count}`)
  }
  return (after.cpu - before.cpu) / all
}

/** Returns the number of heartbeats in that many intervals. @param {import('../parts/pair.js').Pair} pair @param {number} count */
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
