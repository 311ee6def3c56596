// @ts-check
// Gives each number (1, 2, 3 and so on) to the next process in turn, which sends it to everyone.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const CHANNEL = 'publisher'

/**
 * A process may die between storing a number and reporting that. To neither skip a number nor send it
 * twice, the publisher then reads the log: a number that is there was sent.
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
  let isCertain = false // no newer number is in the log; at the start Redis may hold older runs' numbers
  /** @type {Map<string, () => void>} What to call once a mark has been read. */
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
      await sleep(everyMs) // either the example is closing, or the log is down
    }
  }
  await following

  async function follow() {
    const targets = { channels: [CHANNEL] } // plus broadcasts, which are included by default
    for await (const { event, data } of pool.events(targets, { replay: 'all', signal })) {
      if (event === 'number') newest = Math.max(newest, JSON.parse(data).n)
      if (event === 'mark') marks.get(data)?.()
    }
    for (const resolve of marks.values()) resolve()
  }

  /** Once the mark has been read, so has everything that was stored before it. */
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
