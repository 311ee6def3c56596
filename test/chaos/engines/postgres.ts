/**
 * PostgreSQL with a synchronous standby: what it acknowledged, both have. So a failover loses nothing, and clients must
 * not notice it. The server processes reach whichever is the primary at one address.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { createTableSql } from '../../../src/postgres/schema.js'
import { Link } from '../../helpers/link.js'
import { PostgresServer } from '../../helpers/postgres.js'
import type { Engine, Faults } from '../scene.js'
import { serverFaults } from './server.js'

/** Attempts at a deadlock, some of which may fail because of other faults. */
const DEADLOCK_ATTEMPTS = 10

const CLEANINGS = ['VACUUM FULL log', 'VACUUM FULL log_outbox', 'VACUUM log', 'REINDEX TABLE log']

export async function startPostgres(): Promise<Engine> {
  let primary = await PostgresServer.start('max_connections=200', 'deadlock_timeout=100ms')
  // The processes create the tables of the engine; this one is of the app.
  await primary.admin.query('CREATE TABLE accounts (id int PRIMARY KEY, changes int)')
  await primary.admin.query('INSERT INTO accounts VALUES (1, 0), (2, 0)')
  let standby = await primary.standby()
  await primary.setSynchronous(true)
  const link = await Link.to(primary.port)

  const faults = {
    ...serverFaults({
      cut: () => link.cut(),
      freeze: () => primary.pause(),
      thaw: () => primary.resume(),
      kill: () => primary.crash(),
      run: () => primary.run(),
      // As one transaction, so that no process finds half of it.
      empty: async () => {
        await primary.admin.query(`DROP TABLE log, log_outbox, log_state; ${createTableSql('log')}`)
      },
      trim: async () => void (await primary.admin.query('DELETE FROM log')),
    }),

    /** A transaction has taken the lock of the order, and does not end for longer than appends wait. */
    hold: async ({ random }) => {
      const session = await primary.admin.connect()
      await session.query(`BEGIN; SELECT log_append('{}', '{}', '{}', '{}')`)
      await pause(random.whole(500, 4000))
      await session.query('ROLLBACK')
      session.release()
    },

    vacuum: async ({ random }) => {
      await primary.admin.query(random.pick(CLEANINGS))
    },

    /** Two transactions, each with an event, wait for each other: the event of one of them must never arrive. */
    deadlock: async ({ fleet, traffic, model, random }) => {
      for (let attempt = 0; attempt < DEADLOCK_ATTEMPTS; attempt++) {
        const sends = traffic.deadlock(random.pick(fleet.processes))
        while (sends.some(({ state }) => state === 'pending')) await pause(20)
        const states = sends.map(({ state }) => state).sort()
        if (states.join() === 'acknowledged,acknowledged') {
          model.violate('both of two transactions that wait for each other have committed')
        }
        // Otherwise the process was killed, or could not connect.
        if (states.join() === 'acknowledged,rejected') return
      }
      model.violate(`PostgreSQL ended no deadlock in ${DEADLOCK_ATTEMPTS} attempts`)
    },

    failover: async ({ random }) => {
      await primary.replicated(true)
      const lost = primary
      await lost.crash()
      link.leadTo(standby.port)
      // Until then the processes reach a server that refuses to write.
      await pause(random.whole(0, 1000))
      await standby.promote()
      primary = standby
      await lost.stop()
      // Its only standby is gone, so commits would wait for good.
      await primary.setSynchronous(false)
      standby = await primary.standby()
      await primary.setSynchronous(true)
    },
  } satisfies Faults

  return {
    name: 'postgres',
    address: String(link.port),
    hasRuns: true,
    hasTransactions: true,
    faults,
    async stop() {
      link.close()
      await standby.stop()
      await primary.stop()
    },
  }
}
