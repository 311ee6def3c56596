/** A server process: durable streams in the Redis at the URL that it is given. It ends when its parent does. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import Koa from 'koa'
import { createClient } from 'redis'
import { redisRuns } from '../../src/redis/index.js'
import { durableStreams } from '../../src/runs/index.js'
import type { ProcessNews, ProcessOptions } from './durable-processes.js'

const { url, ...options } = JSON.parse(process.argv[2] as string) as ProcessOptions
const tell = (news: ProcessNews) => process.send?.(news)

process.on('disconnect', () => process.exit())

const app = new Koa()
app.on('error', error => error.expose || tell({ error: String(error.stack) }))
app.use(durableStreams({ store: redisRuns({ client: createClient({ url }) }), ...options }))
const server = http.createServer(app.callback())
// Otherwise the proxy could send a request on a connection that is being closed.
server.keepAliveTimeout = 0
await once(server.listen(0, '127.0.0.1'), 'listening')
tell({ port: (server.address() as AddressInfo).port })
