// @ts-check
// A client that never reads: how much the server buffers for it.

/** The size of an event's text, and the number of events that make 50 MB. */
const SIZE = 10_000
const COUNT = 5000
const LOT = 10

/** @type {import('./index.js').Workload} */
export const stalled = {
  rows: {
    stalled: 'a client that never reads while 50 MB are published: growth in MB',
  },
  isSlow: true,

  async run(pair, _plan, report) {
    await pair.grow(1)
    // Once without the client, so that a history or a grown heap is not counted as its cost.
    const before = await publish(pair)
    await pair.client.ask('stall', { port: pair.facts.port })
    const after = await publish(pair)
    report('stalled', (after.rss - before.rss) / 1e6)
  },
}

/** @param {import('../parts/pair.js').Pair} pair */
async function publish(pair) {
  await pair.publish({ count: COUNT, lot: LOT, size: SIZE })
  return pair.server.ask('usage', { collect: true })
}
