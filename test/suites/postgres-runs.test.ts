import { postgresRuns } from 'koa-sse-pool/postgres'
import { runStoreSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { PostgresServer } from '../helpers/postgres.js'

describe('runs in PostgreSQL', () => {
  let server: PostgresServer
  let number = 0
  beforeAll(async () => {
    server = await PostgresServer.start()
  })
  afterAll(() => server.stop())

  runStoreSuite({
    test: (name, run) => test(name, run, 40_000),
    faults: ['cut', 'stop'],
    async create() {
      const table = `runs_${++number}`
      const pool = server.pool()
      await postgresRuns({ pool, table }).createTable()
      return {
        open: () => postgresRuns({ pool, table }),
        close: () => pool.end(),
        cut: () => server.cut(),
        stop: () => server.kill(),
        start: () => server.run(),
      }
    },
  })
})
