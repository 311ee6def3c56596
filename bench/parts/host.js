// @ts-check
// What every server under servers/ answers to its parent, so that the files there show only how a
// library is used.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { eventAt, targetOf } from './event.js'

/**
 * @typedef {import('./event.js').BenchEvent} BenchEvent
 * @typedef {{ cpu: number, rss: number, heap?: number }} Usage µs and bytes
 *
 * @typedef Hosted
 * @property {import('node:net').Server} [server] listens on a port of its own choice
 * @property {number} [port] where somebody else listens already
 * @property {(event: BenchEvent) => unknown} broadcast
 * @property {(client: string, event: BenchEvent) => unknown} [send]
 * @property {() => Usage} [usage] of this process, if absent
 * @property {false} [loop] there is no event loop to look at
 *
 * @param {Hosted} hosted
 */
export function host({ server, port, broadcast, send, usage = ownUsage, loop }) {
  const delay = monitorEventLoopDelay({ resolution: 1 })

  /** @type {Record<string, (args: any) => unknown>} */
  const commands = {
    async publish({ from, count, perTurn, size }) {
      for (let i = 0; i < count; i += 1) {
        if (i > 0 && i % perTurn === 0) await nextTurn()
        await broadcast(eventAt(from + i, size))
      }
    },
    async send({ from, count, perTurn, clients }) {
      for (let i = 0; i < count; i += 1) {
        if (i > 0 && i % perTurn === 0) await nextTurn()
        const seq = from + i
        await send?.(String(targetOf(seq, clients)), eventAt(seq))
      }
    },
    async usage({ collect }) {
      if (collect) await collectGarbage()
      return usage()
    },
    startDelay() {
      delay.reset()
      delay.enable()
    },
    stopDelay() {
      delay.disable()
      return loop === false ? undefined : delay.percentile(99) / 1e6
    },
  }

  process.on('message', async (/** @type {any} */ { id, command, args }) => {
    const result = await commands[command]?.(args ?? {})
    // Nobody waits for most publications: an answer to each would be work that is not the server's.
    if (id !== undefined) process.send?.({ id, result })
  })
  process.on('disconnect', () => process.exit())

  const ready = (/** @type {number} */ at) =>
    process.send?.({ ready: at, canSend: send !== undefined })
  if (server === undefined) ready(/** @type {number} */ (port))
  else {
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
      ready(/** @type {import('node:net').AddressInfo} */ (server.address()).port)
    })
  }
}

/** @returns {Usage} */
function ownUsage() {
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed, external } = process.memoryUsage()
  return { cpu: user + system, rss, heap: heapUsed + external }
}

async function collectGarbage() {
  // More than once, as finalizers of one round let go of what only the next one frees.
  for (let round = 0; round < 3; round += 1) {
    await new Promise(resolve => setTimeout(resolve, 50))
    globalThis.gc?.()
  }
}
