// @ts-check
// Sends to one client by its id, each in turn, so that every socket is cold. Bare `net` frames the
// event, looks up the socket, and calls `socket.write` once.

const SENDS = 20_000

/** @type {import('./index.js').Workload} */
export const targeted = {
  rows: {
    'send-1000': 'targeted, to one of 1,000 ids: CPU µs per send',
    'send-many': 'targeted, to one of {many} ids: CPU µs per send',
  },

  async run(pair, { many }, report) {
    if (!pair.facts.targets.client) return
    for (const count of new Set([1000, many])) {
      await pair.grow(count)
      const cost = await pair.costOf(SENDS, { to: 'client', groups: count, lot: 1000, perTurn: 10 })
      report(count === 1000 ? 'send-1000' : 'send-many', cost)
    }
  },
}
