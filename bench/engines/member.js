// @ts-check
// One of several processes that share a log: a pool as in an app, which publishes, or serves streams and
// reads what others publish.
import { createServer } from 'node:http'
import Koa from 'koa'
import { ClientPool, sse } from '../../dist/index.js'
import { eventAt, monotonic } from '../parts/event.js'
import { answer, listen } from '../parts/host.js'
import { LOGS } from './logs.js'

/** The size of a frame, including the last line break. */
const FRAME_BYTES = 200
/** The number of client ids, as in an app that sends to clients one by one. */
const IDS = 10_000
/** The number of unacknowledged appends at a time. */
const OUTSTANDING = 1000

const text = 'x'.repeat(FRAME_BYTES - 'event: update\ndata: \n\n'.length)

const { engine: name, address } = JSON.parse(process.env.BENCH ?? '{}')
const engine = await LOGS[name]?.(address)
if (engine === undefined) throw new Error(`no engine "${name}"`)

const { log } = engine
let received = 0
let goal = Number.POSITIVE_INFINITY
let reached = () => {}
if (log) countEntries()

const pool = new ClientPool({ maxClients: 100_000, pingInterval: 600_000, ...(log && { log }) })
// At the end a cluster worker loses its log, which is expected.
pool.on('error', error => process.connected && process.stderr.write(`${name}: ${error}\n`))
const app = new Koa().use(sse({ pool, id: ctx => ctx.query.id }))

answer({
  /** Sends each entry to another client. Answers the id of the last one. */
  async send({ count }) {
    let last = ''
    for (let done = 0; done < count; done += OUTSTANDING) {
      const size = Math.min(OUTSTANDING, count - done)
      const sent = Array.from({ length: size }, (_, i) =>
        pool.send((done + i) % IDS, { event: 'update', data: text }),
      )
      last = (await Promise.all(sent)).at(-1) ?? ''
    }
    return last
  },
  /** Broadcasts at a steady pace; answers the time at which each entry was published. */
  async publishSteadily({ from, count, perSecond }) {
    /** @type {number[]} */
    const times = []
    const start = monotonic()
    await new Promise(resolve => {
      // Timers are late at times, so publish whatever is due by the clock.
      const timer = setInterval(() => {
        const due = Math.min(count, ((monotonic() - start) * perSecond) / 1000)
        while (times.length < due) {
          const { event, data } = eventAt(from + times.length)
          times.push(monotonic())
          pool.broadcast({ event, data })
        }
        if (times.length < count) return
        clearInterval(timer)
        resolve(undefined)
      }, 1)
    })
    return times
  },
  /** Starts counting entries and CPU time. */
  count() {
    received = 0
    return cpu()
  },
  /** Once that many have arrived: CPU time in µs, and the time of arrival. */
  async until({ count }) {
    if (received < count) {
      goal = count
      await new Promise(resolve => {
        reached = () => resolve(undefined)
      })
    }
    goal = Number.POSITIVE_INFINITY
    return { cpu: cpu(), at: monotonic() }
  },
  asked: () => engine.asked?.(),
  bytesOfEntry: () => engine.bytesOfEntry?.(),
  stats: () => pool.stats(),
})

const port = await listen(createServer(app.callback()))
process.send?.({ ready: { port } })

function cpu() {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** Counts between the log and the pool, so that no polling adds to the CPU time measured. */
function countEntries() {
  const open = log.open.bind(log)
  log.open = (/** @type {any} */ sink) =>
    open({
      reset: sink.reset.bind(sink),
      state: sink.state.bind(sink),
      error: sink.error.bind(sink),
      append(/** @type {{ target: string }[]} */ entries) {
        sink.append(entries)
        for (const { target } of entries) if (target[0] === '@') received += 1
        if (received >= goal) reached()
      },
    })
}
