// @ts-check
// Handles the parent's commands for the servers of runs. Each run is named by a number.
import { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { eventAt, groupOf, monotonic } from './event.js'
import { host, settings } from './host.js'

/**
 * @typedef Writer appends to one run; a promise is awaited only where a producer would await it
 * @property {(event: import('./event.js').BenchEvent) => unknown} append
 * @property {() => unknown} [flush] resolves when everything is stored
 *
 * @typedef HostedRuns
 * @property {import('node:net').Server} [server]
 * @property {number} [port]
 * @property {string} [path]
 * @property {(id: string) => Writer | Promise<Writer>} start
 */

let writes = 0
if (settings.countsWrites) countWrites()

/** @param {HostedRuns} hosted */
export function hostRuns({ start, ...hosted }) {
  /** @type {Map<string, Writer>} */
  const writers = new Map()
  /** Not awaited, as the tokens of many models come in at once. @param {string} id @param {import('./event.js').BenchEvent} event */
  const append = (id, event) => {
    writers.get(id)?.append(event)
  }
  /** @param {Writer} writer @param {number} from @param {number} count @param {number} [size] */
  const fill = async (writer, from, count, size) => {
    for (let i = 0; i < count; i += 1) await writer.append(eventAt(from + i, size))
    await writer.flush?.()
  }

  return host({
    ...hosted,
    broadcast: event => append('0', event),
    send: append,
    commands: {
      /** Starts that many runs, each with the same entries. */
      async start({ runs, entries = 0, size }) {
        for (let run = 0; run < runs; run += 1) {
          const id = String(run)
          const writer = writers.get(id) ?? (await start(id))
          writers.set(id, writer)
          if (entries > 0) await fill(writer, 1, entries, size)
        }
      },
      /** One producer that awaits every append: CPU and wall-clock time in µs. */
      async appendAll({ id, from, count, size }) {
        const writer = writers.get(id) ?? (await start(id))
        writers.set(id, writer)
        const { user, system } = process.cpuUsage()
        const begun = monotonic()
        await fill(writer, from, count, size)
        const clock = (monotonic() - begun) * 1000
        const after = process.cpuUsage()
        return { cpu: after.user + after.system - user - system, clock }
      },
      /** Appends to each run in turn at a steady pace; answers the time of each append. */
      async produce({ runs, from, perRun, perSecond, size }) {
        /** @type {number[]} */
        const times = []
        const begun = monotonic()
        while (times.length < runs * perRun) {
          // Timers are late at times, so append whatever is due by the clock.
          const due = Math.min(perRun, ((monotonic() - begun) * perSecond) / 1000) * runs
          while (times.length < due) {
            const seq = from + times.length
            times.push(monotonic())
            append(String(groupOf(seq, runs)), eventAt(seq, size))
          }
          await new Promise(resolve => setTimeout(resolve, 1))
        }
        await nextTurn()
        return times
      },
      writes: () => writes,
    },
  })
}

/** Counts the writes to the kernel: a corked response calls `write` several times for one of them. */
function countWrites() {
  const prototype = /** @type {any} */ (Socket.prototype)
  const write = prototype._writeGeneric
  prototype._writeGeneric = function (/** @type {any[]} */ ...args) {
    writes += 1
    return write.apply(this, args)
  }
}
