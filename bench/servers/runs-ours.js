// @ts-check
// koa-sse-pool's runs as built, with all defaults except the limit on streams and the heartbeat. They are
// kept in memory, or in Redis if there is an address.
import { createServer } from 'node:http'
import Koa from 'koa'
import { createClient } from 'redis'
import { ClientPool } from '../../dist/index.js'
import { redisRuns } from '../../dist/redis.js'
import { Runs } from '../../dist/runs.js'
import { settings } from '../parts/host.js'
import { hostRuns } from '../parts/runs-host.js'

const pool = new ClientPool({ maxClients: 100_000, pingInterval: 600_000 })
pool.on('error', error => process.connected && process.stderr.write(`runs: ${error}\n`))
const client = settings.redis && createClient({ url: settings.redis })
const store = client ? redisRuns({ client, key: `bench-${process.pid}` }) : undefined
const runs = new Runs({ pool, store })
const app = new Koa().use(runs.stream({ id: ctx => String(ctx.query.id) }))

hostRuns({
  server: createServer(app.callback()),
  start: id =>
    new Promise((resolve, reject) => {
      const producer = (/** @type {import('../../dist/runs.js').Run} */ run) => {
        resolve({
          append: ({ event, data }) => run.append({ event, data }),
          flush: () => run.flush(),
        })
        return new Promise(() => {})
      }
      runs.start(id, /** @type {any} */ (producer)).catch(reject)
    }),
})
