// @ts-check
// Whether other requests are served while a broadcast is in progress.

/** @type {import('./index.js').Workload} */
export const delay = {
  rows: { delay: 'event-loop delay p99, broadcasts to {most}: ms' },
  isSlow: true,
  isLong: true,

  async run(pair, { most }, report) {
    if (!pair.facts.hasLoop) return
    await pair.grow(most)
    await pair.publish({ count: 3, lot: 1 })
    await pair.server.ask('startDelay')
    await pair.publish({ count: 10, lot: 1 })
    report('delay', await pair.server.ask('stopDelay'))
  },
}
