// @ts-check
// Gives the numbers: 1, 2, 3 and so on, each to the next process in turn, which sends it to everyone.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const CHANNEL = 'publisher'

/**
 * A process may die between storing a number and saying so. So that no number is left out or sent
 * twice, the log is read: what is there was sent.
 *
 * @param {{
 *   pool: import('koa-sse-pool').ClientPool,
 *   processes: import('./processes.js').Processes,
 *   everyMs: number,
 *   signal: AbortSignal,
 * }} options
 */
export async function publishInTurn({ pool, processes, everyMs, signal }) {
  let newest = 0
  let isCertain = false // that the log has no newer one; one in Redis may be older than this process
  /** @type {Map<string, () => void>} Marks that are to be read, and what is to be done then. */
  const marks = new Map()
  const following = follow()

  while (!signal.aborted) {
    const one = processes.next()
    try {
      if (!one) await once(processes, 'change', { signal })
      else {
        if (!isCertain) await readToTheEnd()
        const n = newest + 1
        isCertain = false
        isCertain = await one.publish(n)
        if (isCertain) newest = n
        await sleep(everyMs, undefined, { signal })
      }
    } catch {
      await sleep(everyMs) // it is time to stop, or the log is down
    }
  }
  await following

  async function follow() {
    const targets = { channels: [CHANNEL] } // and, as by default, what is for everyone
    for await (const { event, data } of pool.events(targets, { replay: 'all', signal })) {
      if (event === 'number') newest = Math.max(newest, JSON.parse(data).n)
      if (event === 'mark') marks.get(data)?.()
    }
    for (const resolve of marks.values()) resolve()
  }

  /** A mark comes after all that was stored before it: when it has been read, so has the rest. */
  async function readToTheEnd() {
    const mark = randomUUID()
    const isRead = new Promise(resolve => marks.set(mark, () => resolve(true)))
    try {
      await pool.channel(CHANNEL).send({ event: 'mark', data: mark })
      await isRead
    } finally {
      marks.delete(mark)
    }
  }
}
