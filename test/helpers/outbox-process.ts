/**
 * Places an order and announces it, in the old way or the new one, and is killed in the middle:
 * `node outbox-process.mjs <way> <point> <port> <table>`.
 */
import { ClientPool } from 'koa-sse-pool'
import { postgresLog } from 'koa-sse-pool/postgres'
import pg from 'pg'

const [way, point, port, table] = process.argv.slice(2) as [string, string, string, string]
const address = { host: '127.0.0.1', port: Number(port), user: 'postgres', database: 'postgres' }
const db = new pg.Pool(address)
const pool = new ClientPool({ log: postgresLog({ pool: db, table }) })

async function reached(name: string): Promise<void> {
  if (name !== point) return
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => {})
}

const client = await db.connect()
await client.query('BEGIN')
await client.query(`INSERT INTO ${table}_orders VALUES ('an order')`)
await reached('order')
if (way === 'new') await pool.broadcast('an order', { transaction: client })
await reached('event')
await client.query('COMMIT')
await reached('commit')
if (way === 'old') await pool.broadcast('an order')
await reached('end')
