// @ts-check
// As fast as possible: entries come from outside and accumulate while the server is busy with earlier
// ones. Does load make its writes larger, or its queue longer?

const OUTSTANDING = 64

/** @type {import('./index.js').Workload} */
export const feed = {
  rows: {
    feed: 'as fast as possible, 64 outstanding, to 1,000: CPU µs per delivery',
  },

  async run(pair, { fed }, report) {
    await pair.grow(1000)
    await publish(pair, fed / 4)
    report('feed', (await publish(pair, fed)) / (fed * pair.streams))
  },
}

/** @param {import('../parts/pair.js').Pair} pair @param {number} count */
async function publish(pair, count) {
  const { client, seq: from } = pair
  pair.seq += count
  await client.ask('begin', { from })
  return pair.cpuOf(() =>
    Promise.all([
      client.ask('until', { count: count * pair.streams }),
      client.ask('feed', { feed: pair.facts.feed, from, count, outstanding: OUTSTANDING }),
    ]),
  )
}
