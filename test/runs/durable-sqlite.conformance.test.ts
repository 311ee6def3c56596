/**
 * The conformance suite of the Durable Streams protocol against two stores on one file of SQLite. Each request goes to
 * the other store than the one before it, so nothing may depend on what a store remembers.
 */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { runConformanceTests } from '@durable-streams/server-conformance-tests'
import Koa from 'koa'
import { durableStreams } from 'koa-sse-pool/runs'
import { sqliteRuns } from 'koa-sse-pool/sqlite'
import { afterAll, beforeAll, vi } from 'vitest'
import { driver, SqliteFolder } from '../helpers/sqlite.js'

// Half of the suite's time is the waiting for streams to expire, in tests that may all wait at the same time. The
// time limit is many times what they take, for loaded machines.
vi.setConfig({ testTimeout: 60_000, maxConcurrency: 20 })

// The suite reads the URL in each test, so it may be set after the suite was collected.
const suite = { baseUrl: '', longPollTimeoutMs: 20_000 }

const folder = new SqliteFolder()
const path = folder.newFile()
const stores = [sqliteRuns({ path, driver }), sqliteRuns({ path, driver })] as const
const [one, other] = stores.map(store => durableStreams({ store, longPollTimeout: 500 })) as [
  Koa.Middleware,
  Koa.Middleware,
]
let requests = 0
const app = new Koa()
app.use((ctx, next) => {
  requests += 1
  return requests % 2 === 0 ? one(ctx, next) : other(ctx, next)
})
const server = http.createServer(app.callback())
// Otherwise a request on a loaded machine could be sent on a connection that is being closed.
server.keepAliveTimeout = 0

beforeAll(async () => {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  suite.baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterAll(async () => {
  server.closeAllConnections()
  server.close()
  await Promise.all(stores.map(store => store.close()))
  folder.remove()
})

runConformanceTests(suite)
