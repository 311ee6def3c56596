/**
 * The conformance suite of the Durable Streams protocol against two processes with one PostgreSQL. A proxy sends each
 * request to the other process than the one before it, so nothing may depend on what a process remembers.
 */
import { runConformanceTests } from '@durable-streams/server-conformance-tests'
import { afterAll, beforeAll, expect, vi } from 'vitest'
import { type DurableProcesses, startDurableProcesses } from '../helpers/durable-processes.js'

// Half of the suite's time is the waiting for streams to expire, in tests that may all wait at the same time. The
// time limit is many times what they take, for loaded machines.
vi.setConfig({ testTimeout: 60_000, maxConcurrency: 20 })

// The suite reads the URL in each test, so it may be set after the suite was collected.
const suite = { baseUrl: '', longPollTimeoutMs: 20_000 }

let processes: DurableProcesses
beforeAll(async () => {
  processes = await startDurableProcesses('PostgreSQL', { longPollTimeout: 500 })
  suite.baseUrl = processes.origin
})

afterAll(async () => {
  await processes.stop()
  expect(processes.errors).toEqual([])
})

runConformanceTests(suite)
