// @ts-check
// Stores the orders and their counts in PostgreSQL, with the log of the events.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { postgresLog } from 'koa-sse-pool/postgres'
import pg from 'pg'

/**
 * The orders of a month. The version grows with each change of the row, in commit order.
 *
 * @typedef {{ month: string, orders: number, cents: number, version: number }} Month
 */

const MONTH = 'month, orders, cents::float8 AS cents, version'

/** Orders of the last twelve months, so that the chart does not start empty. */
export const SEED = [38, 45, 41, 52, 60, 57, 49, 66, 72, 69, 81, 34]

/**
 * @param {string | undefined} url of any PostgreSQL; by default, one is started and ends with this
 *   process
 * @param {number[]} seed orders per month, ending with the current one; used if there are none yet
 * @param {number} kept events in the log
 */
export async function openDatabase(url, seed, kept) {
  const own = url ? undefined : await startPostgres()
  const db = new pg.Pool(
    own ? { host: own.folder, user: 'postgres', database: 'postgres' } : { connectionString: url },
  )
  // Without a listener, the loss of an idle connection would crash the process.
  db.on('error', error => db.ending || console.error(`database: ${error.message}`))
  await transaction(client => setUp(client, seed))
  // In the same database, so that an order and its event are in one transaction.
  const log = postgresLog({ pool: db, table: 'order_stats.events', maxEntries: kept })
  await log.createTable()

  /**
   * @param {{ product: string, cents: number, day: string }} order
   * @param {(placed: { id: number, month: Month }, transaction: pg.PoolClient) => Promise<unknown>} announce
   *   sends the event in the transaction of the order
   */
  function placeOrder({ product, cents, day }, announce) {
    return transaction(async client => {
      const order = await client.query(
        'INSERT INTO order_stats.orders (product, cents, day) VALUES ($1, $2, $3) RETURNING id',
        [product, cents, day],
      )
      // The month's row is locked until COMMIT, so the second of two concurrent orders waits here and
      // counts the first. With `SELECT count(*)` neither would see the other: both would report 42.
      const month = await client.query(
        `INSERT INTO order_stats.months AS m (month, orders, cents, version)
         VALUES (left($1, 7), 1, $2, 1)
         ON CONFLICT (month) DO UPDATE
           SET orders = m.orders + 1, cents = m.cents + excluded.cents, version = m.version + 1
         RETURNING ${MONTH}`,
        [day, cents],
      )
      const placed = {
        id: Number(order.rows[0].id),
        month: /** @type {Month} */ (month.rows[0]),
      }
      await announce(placed, client)
      return placed
    })
  }

  /** One statement reads one snapshot, so the counts and their versions match. */
  async function readMonths() {
    const { rows } = await db.query(`SELECT ${MONTH} FROM order_stats.months ORDER BY month`)
    return /** @type {Month[]} */ (rows)
  }

  /**
   * @template Result
   * @param {(client: pg.PoolClient) => Promise<Result>} work
   */
  async function transaction(work) {
    const client = await db.connect()
    /** @type {Error | undefined} */
    let failure
    try {
      await client.query('BEGIN')
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      failure = /** @type {Error} */ (error)
      throw error
    } finally {
      // With an error, the pool closes the connection: its failed transaction would break the next one.
      client.release(failure)
    }
  }

  async function close() {
    await db.end()
    await own?.stop()
  }
  return { log, placeOrder, readMonths, query: db.query.bind(db), close }
}

/** Starts a real server from npm packages. It ends with this process, however that ends. */
export async function startPostgres() {
  const file = fileURLToPath(new URL('postgres.js', import.meta.url))
  // In its own process group, so that Ctrl+C in a terminal reaches only the app.
  const keeper = fork(file, { detached: true, execArgv: [] })
  const exit = once(keeper, 'exit')
  const died = exit.then(([code]) => [{ error: `its process ended with code ${code}` }])
  const [{ folder, error }] = await Promise.race([once(keeper, 'message'), died])
  if (error) throw new Error(`PostgreSQL did not start: ${error}`)

  async function stop() {
    keeper.disconnect()
    await exit
  }
  return { folder, stop }
}

/** Uses its own schema, because the database may belong to somebody. */
async function setUp(client, seed) {
  // Several processes may start at once.
  await client.query('SELECT pg_advisory_xact_lock(20250327)')
  await client.query(`
    CREATE SCHEMA IF NOT EXISTS order_stats;
    CREATE TABLE IF NOT EXISTS order_stats.orders (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      product text NOT NULL,
      cents integer NOT NULL,
      day date NOT NULL
    );
    CREATE TABLE IF NOT EXISTS order_stats.months (
      month text PRIMARY KEY,
      orders integer NOT NULL,
      cents bigint NOT NULL,
      version integer NOT NULL
    )`)
  const { rows } = await client.query('SELECT FROM order_stats.months LIMIT 1')
  if (rows.length > 0) return
  await client.query(
    `INSERT INTO order_stats.orders (product, cents, day)
     SELECT 'teapot', 4800, date_trunc('month', now() AT TIME ZONE 'UTC')
       - make_interval(months => cardinality($1::int[]) - at::int)
     FROM unnest($1::int[]) WITH ORDINALITY AS seed(amount, at), generate_series(1, amount)`,
    [seed],
  )
  await client.query(
    `INSERT INTO order_stats.months
     SELECT to_char(day, 'YYYY-MM') AS month, count(*), sum(cents), 1
     FROM order_stats.orders GROUP BY month`,
  )
}
