/** A server process: durable streams in the engine at the URL that it is given. It ends when its parent does. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import Koa from 'koa'
import pg from 'pg'
import { createClient } from 'redis'
import { postgresRuns } from '../../src/postgres/index.js'
import { redisRuns } from '../../src/redis/index.js'
import { durableStreams } from '../../src/runs/index.js'
import type { ProcessNews, ProcessOptions } from './durable-processes.js'

const { engine, url, ...options } = JSON.parse(process.argv[2] as string) as ProcessOptions
const tell = (news: ProcessNews) => process.send?.(news)

process.on('disconnect', () => process.exit())

const app = new Koa()
app.on('error', error => error.expose || tell({ error: String(error.stack) }))
app.use(durableStreams({ store: await openStore(), ...options }))
const server = http.createServer(app.callback())
// Otherwise the proxy could send a request on a connection that is being closed.
server.keepAliveTimeout = 0
await once(server.listen(0, '127.0.0.1'), 'listening')
tell({ port: (server.address() as AddressInfo).port })

async function openStore() {
  if (engine === 'Redis') return redisRuns({ client: createClient({ url }) })
  const pool = new pg.Pool({ connectionString: url })
  const store = postgresRuns({ pool, table: 'app_runs' })
  // Both processes at once.
  await store.createTable()
  return store
}
