import { sqliteLog } from 'koa-sse-pool/sqlite'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { afterAll, describe, test } from 'vitest'
import { deleteDatabase, driver, openDatabase, SqliteFolder } from '../helpers/sqlite.js'

describe('the SQLite log', () => {
  const folder = new SqliteFolder()
  afterAll(() => folder.remove())

  eventLogSuite({
    test: (name, run) => test(name, run, 40_000),
    faults: ['flush', 'trim'],
    create() {
      const path = folder.newFile()
      return {
        // Only a deleted file is found by the poll.
        open: () => sqliteLog({ path, driver, pollMs: 200 }),
        close() {},
        flush: () => deleteDatabase(path),
        trim() {
          const database = openDatabase(path)
          database.exec('DELETE FROM sse_events')
          database.close()
        },
      }
    },
  })
})
