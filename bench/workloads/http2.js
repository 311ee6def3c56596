// @ts-check
// Broadcasts over HTTP/2, to browsers that have a session each, and to a proxy that has many streams on one.

/** @type {Record<string, import('./index.js').Workload>} */
export const HTTP2_WORKLOADS = Object.fromEntries(
  [false, true].flatMap(tls =>
    [1, 50].map(perSession => {
      const name = `${tls ? 'tls' : 'h2c'}-${perSession}`
      return [name, broadcast(name, perSession, tls)]
    }),
  ),
)

/** @param {string} name @param {number} perSession @param {boolean} tls @returns {import('./index.js').Workload} */
function broadcast(name, perSession, tls) {
  const how = `${tls ? 'with TLS' : 'without TLS'}, ${perSession === 1 ? 'one stream' : `${perSession} streams`} per session`
  return {
    rows: {
      [`${name}-1000`]: `broadcast to 1,000, ${how}: CPU µs per delivery`,
      [`${name}-many`]: `broadcast to {many}, ${how}: CPU µs per delivery`,
    },
    settings: { tls },

    async run(pair, { many, deliveries }, report) {
      const http2 = { perSession, tls }
      // Deliveries of one session go out together, and cost so little that more of them are needed.
      const work = perSession === 1 ? deliveries : 4 * deliveries
      await pair.grow(1000, { http2 })
      report(`${name}-1000`, await pair.costOf(work, { lot: 1 }))
      if (many <= 1000) return
      await pair.grow(many, { http2 })
      report(`${name}-many`, await pair.costOf(work, { lot: 1 }))
    },
  }
}
