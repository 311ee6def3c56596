import { sqliteRuns } from 'koa-sse-pool/sqlite'
import { runStoreSuite } from 'koa-sse-pool/testing'
import { afterAll, describe, test } from 'vitest'
import { driver, SqliteFolder } from '../helpers/sqlite.js'

describe('runs in SQLite', () => {
  const folder = new SqliteFolder()
  afterAll(() => folder.remove())

  runStoreSuite({
    test: (name, run) => test(name, run, 40_000),
    create() {
      const path = folder.newFile()
      // They hear of each other without a poll.
      return { open: () => sqliteRuns({ path, driver, pollMs: 3_600_000 }), close() {} }
    },
  })
})
