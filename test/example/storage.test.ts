import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ClientPool } from 'koa-sse-pool'
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { openStorage } from '../../example/shared/storage.js'
import { type Driver, findDriver } from '../../src/sqlite/driver.js'
import { driver, SqliteFolder } from '../helpers/sqlite.js'

const Database = findDriver(driver as Driver | undefined)
const folder = new SqliteFolder()
afterAll(() => folder.remove())

describe('the storage of the examples, in a file', () => {
  let file: string

  beforeEach(() => {
    file = folder.newFile()
  })

  const open = () => {
    const storage = openStorage(file, Database)
    onTestFinished(() => storage.close())
    return storage
  }

  test('creates the folder of the file', () => {
    file = join(folder.path, 'new', 'data', 'events.db')
    open()
    expect(existsSync(file)).toBe(true)
  })

  test('keeps what is set, in the order in which the keys were first set', () => {
    const table = open().table('cups')
    table.set('b', { size: 1 })
    table.set('a', { size: 2 })
    table.set('b', { size: 3 })
    table.set('c', { size: 4 })
    table.delete('c')
    const again = open().table('cups')
    expect(again.get('b')).toEqual({ size: 3 })
    expect(again.get('c')).toBeUndefined()
    expect([...again.values()]).toEqual([{ size: 3 }, { size: 2 }])
    expect([...open().table('plates').values()]).toEqual([])
  })

  test('stores a value and the event in one transaction, or neither', async () => {
    const storage = open()
    const pool = new ClientPool({ log: storage.log() })
    onTestFinished(() => pool.close())
    pool.on('error', () => {})
    // Creates the tables.
    await pool.broadcast('first')
    const events = pool.events()
    const table = storage.table('cups')
    expect(() =>
      storage.transact(transaction => {
        table.set('a', 1)
        pool.broadcast('rolled back', { transaction }).catch(() => {})
        throw new Error('changed my mind')
      }),
    ).toThrow('changed my mind')
    storage.transact(transaction => {
      table.set('b', 2)
      void pool.broadcast('committed', { transaction })
    })
    expect(await events.next()).toMatchObject({ value: { data: 'committed' } })
    await events.return(undefined)
    expect([...table.values()]).toEqual([2])
  })

  test('gives a pool the events from before a restart', async () => {
    const first = openStorage(file, Database)
    const before = new ClientPool({ log: first.log() })
    await before.broadcast('hello')
    await before.close()
    first.close()
    const pool = new ClientPool({ log: open().log() })
    onTestFinished(() => pool.close())
    const events = pool.events({}, { replay: 'all' })
    expect(await events.next()).toMatchObject({ value: { data: 'hello' } })
    await events.return(undefined)
  })
})

describe('the storage of the examples, in memory', () => {
  test('says so and what to do where there is no SQLite, and works', () => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => {})
    // As on Node 20; better-sqlite3 is no dependency.
    vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined)
    onTestFinished(() => void vi.restoreAllMocks())
    const file = folder.newFile()
    const storage = openStorage(file)
    expect(error.mock.calls).toEqual([[expect.stringContaining('Use Node 22.13 or newer')]])
    expect(existsSync(file)).toBe(false)
    expect(storage.log()).toBeUndefined()
    expect(storage.runs()).toBe(storage.runs())
    storage.table('cups').set('a', 1)
    expect(storage.table('cups').get('a')).toBe(1)
  })

  test('says nothing if nothing is to be kept', () => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => void vi.restoreAllMocks())
    const storage = openStorage()
    storage.transact(transaction => expect(transaction).toBeUndefined())
    expect(error).not.toHaveBeenCalled()
  })
})
