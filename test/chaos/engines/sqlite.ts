/** One file of SQLite, which the processes of one machine share. There is no server: they fail themselves. */
import { setTimeout as pause } from 'node:timers/promises'
import { isBusy } from '../../../src/sqlite/errors.js'
import { deleteDatabase, openDatabase, SqliteFolder } from '../../helpers/sqlite.js'
import type { Engine, Faults } from '../scene.js'

/** Longer than it takes to stop a process that holds the write lock, in ms. */
const HOLD_MS = 300

const CLEANINGS = ['VACUUM', 'PRAGMA wal_checkpoint(TRUNCATE)', 'REINDEX']

export async function startSqlite(): Promise<Engine> {
  const folder = new SqliteFolder()
  const path = folder.newFile()

  /** SQLite's own waiting for the lock would stop the driver. */
  async function execute(sql: string): Promise<void> {
    const database = openDatabase(path)
    try {
      for (;;) {
        try {
          database.exec(sql)
          return
        } catch (error) {
          if (!isBusy(error)) throw error
        }
        await pause(2)
      }
    } finally {
      database.close()
    }
  }

  const faults = {
    /** The file is deleted while all have it open. They stand still, or one could open it in the middle of that. */
    wipe: async ({ fleet, model }) => {
      const loss = model.lose(true)
      for (const process of fleet.processes) process.pause()
      deleteDatabase(path)
      for (const process of fleet.processes) process.resume()
      loss.over()
    },

    trim: async ({ model }) => {
      const loss = model.lose(false)
      await execute('DELETE FROM log')
      loss.over()
    },

    vacuum: ({ random }) => execute(random.pick(CLEANINGS)),

    /** Somebody reads for long, so the `-wal` file cannot be begun again. */
    read: async ({ random }) => {
      const database = openDatabase(path)
      database.exec('BEGIN')
      database.prepare('SELECT count(*) FROM log').get()
      await pause(random.whole(500, 4000))
      database.close()
    },

    /** A process stops while it holds the write lock, for longer than appends wait. */
    hold: async ({ fleet, traffic, random }) => {
      const process = random.pick(fleet.processes)
      await traffic.transact(process, { ends: 'commit', hold: HOLD_MS })
      process.pause()
      await pause(random.whole(500, 4000))
      process.resume()
    },

    /** A process is killed in the middle of its transaction. */
    abort: async ({ fleet, traffic, random }) => {
      const process = random.pick(fleet.processes)
      await traffic.transact(process, { ends: 'commit', hold: HOLD_MS })
      await fleet.replace(process, () => process.kill())
    },

    /** The disk is full for the processes, as test/helpers/full.ts says. */
    full: async ({ fleet, random }) => {
      const bytes = random.whole(0, 64 * 1024)
      const processes = [...fleet.processes]
      await Promise.all(processes.map(process => process.limitFiles(bytes)))
      await pause(random.whole(500, 3000))
      await Promise.all(processes.map(process => process.limitFiles('unlimited')))
    },
  } satisfies Faults

  return {
    name: 'sqlite',
    address: path,
    hasRuns: true,
    hasTransactions: true,
    faults,
    stop: async () => folder.remove(),
  }
}
