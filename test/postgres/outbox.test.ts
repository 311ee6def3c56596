/** An app that is killed between its COMMIT and its event, and the libraries that transactions come from. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import knexOf from 'knex'
import { ClientPool } from 'koa-sse-pool'
import { type PostgresTransaction, postgresLog } from 'koa-sse-pool/postgres'
import { Sequelize, type Transaction } from 'sequelize'
import { build } from 'tsup'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { start } from '../../src/testing/process.js'
import { PostgresServer } from '../helpers/postgres.js'

let server: PostgresServer
let number = 0
beforeAll(async () => {
  server = await PostgresServer.start()
})
afterAll(() => server.stop())

async function setUp() {
  const table = `outbox_${++number}`
  const log = postgresLog({ pool: server.admin, table })
  await log.createTable()
  await server.admin.query(`CREATE TABLE ${table}_orders (text text)`)
  const reader = start(postgresLog({ pool: server.admin, table }))
  onTestFinished(() => reader.log.close())
  await reader.opened
  const pool = new ClientPool({ log })
  onTestFinished(() => pool.close())
  return {
    ...{ table, pool, reader },
    orders: async () => (await server.admin.query(`SELECT * FROM ${table}_orders`)).rowCount,
    /** The events that were sent until now, once all of them have arrived. */
    async events() {
      await pool.broadcast('last')
      const last = 'data: last\n\n'
      await reader.until('arrived', () => reader.entries.some(({ frame }) => frame === last))
      const sent = reader.entries.filter(({ target }) => target === '*')
      return sent.map(({ frame }) => frame).filter(frame => frame !== last)
    },
  }
}

describe('an app that is killed', () => {
  let folder: string
  beforeAll(async () => {
    // Below node_modules, so that packages are found from there.
    const cache = fileURLToPath(new URL('../../node_modules/.cache/koa-sse-pool', import.meta.url))
    await mkdir(cache, { recursive: true })
    folder = await mkdtemp(join(cache, 'outbox-'))
    const entry = fileURLToPath(new URL('../helpers/outbox-process.ts', import.meta.url))
    const source = fileURLToPath(new URL('../../src', import.meta.url))
    await build({
      ...{ entry: { app: entry }, outDir: folder, format: 'esm', target: 'node20' },
      ...{ config: false, silent: true, skipNodeModulesBundle: true },
      outExtension: () => ({ js: '.mjs' }),
      // The sources of the package, so that the test needs no build.
      esbuildOptions(options) {
        options.alias = {
          'koa-sse-pool/postgres': join(source, 'postgres/index.ts'),
          'koa-sse-pool': join(source, 'index.ts'),
        }
      },
      noExternal: [/^koa-sse-pool/],
    })
  })
  afterAll(() => rm(folder, { recursive: true }))

  async function kill(way: string, point: string) {
    const { table, orders, events } = await setUp()
    const app = join(folder, 'app.mjs')
    const args = [app, way, point, `${server.port}`, table]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    const [, signal] = await once(child, 'exit')
    expect(signal).toBe('SIGKILL')
    return { orders: await orders(), events: (await events()).length }
  }

  test('after its COMMIT and before its event has an order that nobody hears of, in the old way', async () => {
    expect(await kill('old', 'commit')).toEqual({ orders: 1, events: 0 })
    expect(await kill('old', 'end')).toEqual({ orders: 1, events: 1 })
  })

  test.each([
    ['order', 0],
    ['event', 0],
    ['commit', 1],
    ['end', 1],
  ])(
    'at any point has both the order and its event, or none, with a transaction: %s',
    async (point, both) => {
      expect(await kill('new', point)).toEqual({ orders: both, events: both })
    },
  )
})

describe('a transaction of', () => {
  /** Runs the work in a transaction of the library; rejects if the work does. */
  type Transact = (
    table: string,
    work: (transaction: PostgresTransaction) => Promise<unknown>,
  ) => Promise<unknown>

  const address = () => `postgres://postgres@127.0.0.1:${server.port}/postgres`

  const libraries: [string, Transact][] = [
    [
      'pg',
      async (table, work) => {
        const client = await server.admin.connect()
        try {
          await client.query('BEGIN')
          await client.query(`INSERT INTO ${table}_orders VALUES ('an order')`)
          await work(client)
          await client.query('COMMIT')
        } catch (error) {
          await client.query('ROLLBACK')
          throw error
        } finally {
          client.release()
        }
      },
    ],
    [
      'Drizzle',
      (table, work) => {
        const drizzleTransaction = (tx: {
          execute(query: ReturnType<typeof sql>): PromiseLike<unknown>
        }) => ({
          query: (text: string, values: (string | null)[]) =>
            tx.execute(
              sql.join(
                text
                  .split(/\$\d/)
                  .flatMap((part, n) =>
                    n < values.length ? [sql.raw(part), sql`${values[n]}`] : [sql.raw(part)],
                  ),
              ),
            ),
        })
        const db = drizzle({ client: server.admin })
        return db.transaction(async tx => {
          await tx.execute(sql.raw(`INSERT INTO ${table}_orders VALUES ('an order')`))
          await work(drizzleTransaction(tx))
        })
      },
    ],
    [
      'Knex',
      async (table, work) => {
        const knexTransaction = (trx: knexOf.Knex.Transaction) => ({
          query: (text: string, values: (string | null)[]) =>
            trx.raw(text.replace(/\$\d/g, '?'), values as string[]),
        })
        const knex = knexOf({ client: 'pg', connection: address() })
        onTestFinished(() => knex.destroy())
        await knex.transaction(async trx => {
          await trx(`${table}_orders`).insert({ text: 'an order' })
          await work(knexTransaction(trx))
        })
      },
    ],
    [
      'Sequelize',
      async (table, work) => {
        const sequelize = new Sequelize(address(), { logging: false })
        onTestFinished(() => sequelize.close())
        const sequelizeTransaction = (transaction: Transaction) => ({
          query: (text: string, bind: (string | null)[]) =>
            sequelize.query(text, { bind, transaction }),
        })
        await sequelize.transaction(async transaction => {
          await sequelize.query(`INSERT INTO ${table}_orders VALUES ('an order')`, { transaction })
          await work(sequelizeTransaction(transaction))
        })
      },
    ],
  ]

  test.each(libraries)(
    '%s delivers after its commit, and nothing after its rollback',
    async (_, transact) => {
      const { table, pool, orders, events } = await setUp()
      const text = 'a ? and $1 and NUL \0, or \uE000'
      await transact(table, transaction =>
        pool.broadcast({ data: text, key: '?' }, { transaction }),
      )
      const rolledBack = transact(table, async transaction => {
        await pool.broadcast('never', { transaction })
        await pool.send('ada', 'never', { transaction })
        throw new Error('rolled back')
      })
      await expect(rolledBack).rejects.toThrow('rolled back')
      expect(await events()).toEqual([`data: ${text}\n\n`])
      expect(await orders()).toBe(1)
    },
  )
})
