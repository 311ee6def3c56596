// @ts-check
// A hundred channels; each entry goes to one of them.

const CHANNELS = 100

/** @type {import('./index.js').Workload} */
export const channels = {
  rows: { channels: '100 channels, {many} streams: CPU µs per delivery' },
  settings: { channels: true },

  async run(pair, { many, deliveries }, report) {
    if (!pair.facts.targets.channel) return
    await pair.grow(many, { channels: CHANNELS })
    const work = { to: /** @type {'channel'} */ ('channel'), groups: CHANNELS, lot: CHANNELS }
    report('channels', await pair.costOf(deliveries, { ...work, perTurn: 1 }))
  },
}
