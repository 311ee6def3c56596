// @ts-check
// Broadcasts to few and to many streams, one entry at a time and several in one turn.

/** @type {import('./index.js').Workload} */
export const broadcast = {
  rows: {
    'one-100': 'broadcast to 100, one entry at a time: CPU µs per delivery',
    'one-1000': 'broadcast to 1,000, one entry at a time: CPU µs per delivery',
    'one-many': 'broadcast to {many}, one entry at a time: CPU µs per delivery',
    growth: 'growth: the cost at {many} divided by the cost at 1,000',
    'burst-4': 'burst of 4 entries in one turn to 1,000: CPU µs per delivery',
    'burst-16': 'burst of 16 entries in one turn to 1,000: CPU µs per delivery',
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
