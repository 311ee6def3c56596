// @ts-check
// The cost of connecting, and of staying connected without any traffic.

/** @type {import('./index.js').Workload} */
export const idle = {
  rows: {
    connect: 'connecting {many}: CPU µs per stream',
    'rss-1000': 'idle stream, of 1,000, after GC: KB of resident memory',
    'rss-many': 'idle stream, of {many}, after GC: KB of resident memory',
    'heap-many': 'idle stream, of {many}, after GC: KB of V8 heap and buffers',
  },

  async run(pair, { many }, report) {
    const { server } = pair
    const collect = true
    // A first stream, because the first request loads code.
    await pair.grow(1)
    const empty = await server.ask('usage', { collect })
    let connected = 0
    for (const count of new Set([1000, many])) {
      const cpu = await pair.cpuOf(() => pair.grow(count + 1))
      if (count === many) report('connect', cpu / (count - connected))
      connected = count
      const quiet = await server.ask('usage', { collect })
      if (count === 1000) report('rss-1000', (quiet.rss - empty.rss) / count / 1000)
      if (count > 1000) {
        report('rss-many', (quiet.rss - empty.rss) / count / 1000)
        if (quiet.heap !== undefined) report('heap-many', (quiet.heap - empty.heap) / count / 1000)
      }
    }
  },
}
