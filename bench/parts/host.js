// @ts-check
// Handles the parent's commands for every server in servers/, so that the files there show only how a
// library is used.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { eventAt, groupOf, monotonic, orderAt } from './event.js'
import { listenForFeed } from './feed.js'

/**
 * @typedef {import('./event.js').BenchEvent} BenchEvent
 * @typedef {{ cpu: number, rss: number, heap?: number }} Usage µs and bytes
 *
 * @typedef Settings of the server, for workloads that need other than the usual ones
 * @property {number} ping ms between heartbeats; 0 for none, or as few as the server allows
 * @property {number} history the number of entries to keep for replay
 * @property {boolean} channels each stream joins the channel that its request names
 * @property {object} [pool] more options for koa-sse-pool
 * @property {object} [route] more options for its route
 * @property {boolean} [isHttp2] it serves HTTP/2
 * @property {boolean} [tls] over TLS
 * @property {string} [build] the URL of another build of it
 * @property {string} [redis] the address of a Redis server
 * @property {boolean} [isFirst] of resumable-stream: a reader gets the stream that its producer's call returned
 * @property {boolean} [countsWrites]
 * @property {(pool: any) => unknown} [observe] is called with its pool
 *
 * @typedef Hosted
 * @property {import('node:net').Server} [server] will listen on any free port
 * @property {number} [port] of a server that already listens
 * @property {string} [feedPath] where that server accepts entries by POST
 * @property {(event: BenchEvent) => unknown} broadcast
 * @property {(client: string, event: BenchEvent) => unknown} [send]
 * @property {(channel: string, event: BenchEvent) => unknown} [sendToChannel]
 * @property {boolean} [replays] a reconnecting client gets what it missed
 * @property {string} [path] of a stream, with `{id}`, if the server decides about it
 * @property {Record<string, (args: any) => unknown>} [commands] of servers of runs only
 * @property {() => Usage} [usage] defaults to that of this process
 */

/** @type {Settings} */
export const settings = {
  ...{ ping: 0, history: 0, channels: false },
  ...JSON.parse(process.env.BENCH ?? '{}'),
}

/** Ends this process because the server cannot be measured. @param {string} reason */
export function skip(reason) {
  process.send?.({ skipped: reason }, () => process.exit())
}

/** @param {Hosted} hosted */
export async function host({ server, port, feedPath, usage = ownUsage, ...hosted }) {
  const { broadcast, send, sendToChannel, path } = hosted
  const delay = monitorEventLoopDelay({ resolution: 1 })
  /** @param {'everyone' | 'client' | 'channel'} to @param {number} groups @param {BenchEvent} event */
  const deliver = (to, groups, event) => {
    if (to === 'everyone') return broadcast(event)
    const name = String(groupOf(Number(event.id), groups))
    return to === 'client' ? send?.(name, event) : sendToChannel?.(name, event)
  }

  /** @type {Record<string, (args: any) => unknown>} */
  const commands = {
    async publish({ from, count, perTurn, size, items, to = 'everyone', groups }) {
      for (let i = 0; i < count; i += 1) {
        if (i > 0 && i % perTurn === 0) await nextTurn()
        const event = items ? orderAt(from + i, items) : eventAt(from + i, size)
        await deliver(to, groups, event)
      }
    },
    /** Publishes by a timer; answers the time at which each entry was published. */
    publishSteadily: ({ from, count, every }) =>
      new Promise(resolve => {
        /** @type {number[]} */
        const times = []
        const timer = setInterval(() => {
          times.push(monotonic())
          broadcast(eventAt(from + times.length - 1))
          if (times.length < count) return
          clearInterval(timer)
          resolve(times)
        }, every)
      }),
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
      return delay.percentile(99) / 1e6
    },
    ...hosted.commands,
  }

  answer(commands)
  const own = server && (await listen(server))
  const feed = feedPath
    ? { port, path: feedPath }
    : { port: await listen(listenForFeed(seq => broadcast(eventAt(seq)))) }
  /** @type {import('./worker.js').Facts} */
  const facts = {
    port: /** @type {number} */ (own ?? port),
    feed: /** @type {{ port: number, path?: string }} */ (feed),
    hasLoop: server !== undefined,
    replays: hosted.replays === true,
    path,
    hasRuns: hosted.commands !== undefined,
    targets: { client: send !== undefined, channel: sendToChannel !== undefined },
  }
  process.send?.({ ready: facts })
}

/** Executes the parent's commands until the parent ends. @param {Record<string, (args: any) => unknown>} commands */
export function answer(commands) {
  process.on('message', async (/** @type {any} */ { id, command, args }) => {
    const result = await commands[command]?.(args ?? {})
    // Most publications need no answer; sending one would add work that is not the server's.
    if (id !== undefined) process.send?.({ id, result })
  })
  process.on('disconnect', () => process.exit())
}

/** @param {import('node:net').Server} server @returns {Promise<number>} */
export function listen(server) {
  return new Promise(resolve => {
    // Without `exclusive`, a cluster's primary would accept the connections.
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096, exclusive: true }, () => {
      resolve(/** @type {import('node:net').AddressInfo} */ (server.address()).port)
    })
  })
}

/** @returns {Usage} */
function ownUsage() {
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed, external } = process.memoryUsage()
  return { cpu: user + system, rss, heap: heapUsed + external }
}

async function collectGarbage() {
  // Several rounds, because finalizers of one round release what only the next round frees.
  for (let round = 0; round < 3; round += 1) {
    await new Promise(resolve => setTimeout(resolve, 50))
    globalThis.gc?.()
  }
}
