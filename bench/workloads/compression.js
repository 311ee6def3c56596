// @ts-check
// Broadcasts to clients that accept gzip. The events differ from each other as those of an app do.

/** @type {Record<string, import('./index.js').Workload>} */
export const COMPRESSION_WORKLOADS = {
  small: broadcast('small', 2, 'events of about 250 bytes'),
  large: broadcast('large', 40, 'events of about 1,800 bytes'),
}

/** @param {string} name @param {number} items @param {string} what @returns {import('./index.js').Workload} */
function broadcast(name, items, what) {
  return {
    rows: {
      [`gzip-${name}`]: `broadcast of ${what} to 1,000, one at a time: CPU µs per delivery`,
      [`gzip-${name}-bytes`]: 'the same: bytes per delivery, as read from the socket',
    },

    async run(pair, { deliveries }, report) {
      await pair.grow(1000, { gzip: true })
      await pair.costOf(deliveries / 4, { lot: 1, items })
      const before = await pair.client.ask('bytesRead')
      const entries = Math.round(deliveries / pair.streams)
      const cpu = await pair.publish({ count: entries, lot: 1, items })
      const after = await pair.client.ask('bytesRead')
      report(`gzip-${name}`, cpu / entries / pair.streams)
      report(`gzip-${name}-bytes`, (after - before) / entries / pair.streams)
    },
  }
}
