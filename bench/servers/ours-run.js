// @ts-check
// koa-sse-pool's runs: every stream reads the same run, and what is broadcast is appended to it.
import { createServer } from 'node:http'
import Koa from 'koa'
import { ClientPool } from '../../dist/index.js'
import { Runs } from '../../dist/runs.js'
import { host } from '../parts/host.js'

const pool = new ClientPool({ maxClients: 100_000, pingInterval: 600_000 })
const runs = new Runs({ pool })
/** @type {import('../../dist/runs.js').Run} */
let hot
await runs.start('hot', async run => {
  hot = run
  await new Promise(() => {})
})
const app = new Koa()
// The others begin with what is sent from now on, so these must not begin at the beginning.
app.use(async (ctx, next) => {
  ctx.req.headers['last-event-id'] = (await runs.get('hot'))?.offset
  await next()
})
app.use(runs.stream({ id: () => 'hot' }))

host({
  server: createServer(app.callback()),
  broadcast({ event, data }) {
    hot.append({ event, data })
  },
})
