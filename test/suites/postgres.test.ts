import { postgresLog } from 'koa-sse-pool/postgres'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { PostgresServer } from '../helpers/postgres.js'

describe('the PostgreSQL log', () => {
  let server: PostgresServer
  let number = 0
  beforeAll(async () => {
    server = await PostgresServer.start()
  })
  afterAll(() => server.stop())

  eventLogSuite({
    test: (name, run) => test(name, run, 40_000),
    faults: ['cut', 'flush', 'trim', 'stop'],
    async create() {
      const table = `log_${++number}`
      const pool = server.pool()
      const create = () => postgresLog({ pool, table }).createTable()
      await create()
      return {
        open: () => postgresLog({ pool, table }),
        close: () => pool.end(),
        cut: () => server.cut(),
        async flush() {
          await server.admin.query(`DROP TABLE ${table}, ${table}_outbox, ${table}_state`)
          await create()
        },
        trim: async () => void (await server.admin.query(`DELETE FROM ${table}`)),
        stop: () => server.kill(),
        start: () => server.run(),
      }
    },
  })
})
