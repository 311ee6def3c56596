// @ts-check
// To everyone, from few streams to many, one entry at a time and several in a turn.

/** @type {import('./index.js').Workload} */
export const broadcast = {
  rows: {
    'one-100': 'broadcast to 100, one entry at a time: CPU µs a delivery',
    'one-1000': 'broadcast to 1,000, one entry at a time: CPU µs a delivery',
    'one-many': 'broadcast to {many}, one entry at a time: CPU µs a delivery',
    growth: 'growth: the cost at {many} over the cost at 1,000',
    'burst-4': 'burst of 4 entries in a turn to 1,000: CPU µs a delivery',
    'burst-16': 'burst of 16 entries in a turn to 1,000: CPU µs a delivery',
  },

  async run(pair, { many, deliveries }, report) {
    await pair.grow(100)
    report('one-100', await pair.costOf(deliveries, { lot: 1 }))
    await pair.grow(1000)
    const few = await pair.costOf(deliveries, { lot: 1 })
    report('one-1000', few)
    report('burst-4', await pair.costOf(deliveries, { lot: 4 }))
    report('burst-16', await pair.costOf(deliveries, { lot: 16 }))
    if (many <= 1000) return
    await pair.grow(many)
    const cost = await pair.costOf(deliveries, { lot: 1 })
    report('one-many', cost)
    report('growth', cost / few)
  },
}
