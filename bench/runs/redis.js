// @ts-check
// What a Redis server has done so far.
import { createClient } from 'redis'

/** What a client sends for itself, and what this file does. */
const OWN = /^(info|hello|client|select|ping|config)\b/
/** The rest of what a client sends if its commands run in scripts; all others run inside of these. */
const SENT = /^(eval|evalsha|subscribe|unsubscribe)$/

/**
 * `sent` are commands that a client has sent, `run` also those inside of scripts; `cpu` is in µs.
 *
 * @param {string} address
 */
export async function watchRedis(address) {
  const client = await createClient({ url: address }).connect()
  return {
    async read() {
      const stats = await client.info('commandstats')
      const { used_cpu_user: user, used_cpu_sys: system } = Object.fromEntries(
        (await client.info('cpu')).split('\r\n').map(line => line.split(':')),
      )
      const calls = [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)]
        .map(([, name = '', count]) => ({ name, count: Number(count) }))
        .filter(({ name }) => !OWN.test(name))
      const total = (/** @type {typeof calls} */ some) =>
        some.reduce((sum, { count }) => sum + count, 0)
      const sent = calls.filter(({ name }) => SENT.test(name))
      const hasScripts = sent.some(({ name }) => name.startsWith('eval'))
      const cpu = (Number(user) + Number(system)) * 1e6
      return { sent: total(hasScripts ? sent : calls), run: total(calls), cpu }
    },
    close: () => client.destroy(),
  }
}
