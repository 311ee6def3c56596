// @ts-check
// All clients reconnect at once with the same cursor; only for servers that keep a history.

/** @type {import('./index.js').Workload} */
export const replay = {
  rows: {
    replay: 'replay storm, {stormy} × {missed} entries missed: CPU µs per entry',
    return: 'replay storm, {stormy} × {missed} entries missed: CPU µs per reconnect',
  },
  settings: { history: 2000 },
  isSlow: true,
  isLong: true,

  async run(pair, { stormy, missed }, report) {
    const { client, facts } = pair
    if (!facts.replays) return
    await client.ask('learnId', { port: facts.port })
    await pair.publish({ count: 1, lot: 1 })
    const lastEventId = await client.ask('learntId')
    await pair.publish({ count: missed, lot: missed, perTurn: 10 })

    await client.ask('begin', { from: pair.seq - missed })
    const all = client.ask('until', { count: stormy * missed })
    const cpu = await pair.cpuOf(() => Promise.all([all, pair.grow(stormy, { lastEventId })]))
    report('replay', cpu / stormy / missed)
    report('return', cpu / stormy)
  },
}
