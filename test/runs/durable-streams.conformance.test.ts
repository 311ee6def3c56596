/**
 * The conformance suite of the Durable Streams protocol against `durableStreams()`: all of it but the
 * webhook subscriptions, which are optional and not offered.
 */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { runConformanceTests } from '@durable-streams/server-conformance-tests'
import Koa from 'koa'
import { durableStreams, memoryRuns } from 'koa-sse-pool/runs'
import { afterAll, beforeAll, vi } from 'vitest'

// Half of the suite's time is the waiting for streams to expire, in tests that may all wait at the same time. The
// time limit is many times what they take, for loaded machines.
vi.setConfig({ testTimeout: 60_000, maxConcurrency: 20 })

const longPollTimeout = 500
// The suite reads the URL in each test, so it may be set after the suite was collected.
// The time of long polls only limits its tests that wait for one.
const suite = { baseUrl: '', longPollTimeoutMs: 20_000 }

const store = memoryRuns()
const app = new Koa()
app.use(durableStreams({ store, longPollTimeout }))
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
  await store.close()
})

runConformanceTests(suite)
