/** The app's own transactions, on its own connections to the file of the log. */
import { got } from '../lib/errors.js'
import type { Entry } from '../log/log.js'
import { fileOf, rollBack } from './connection.js'
import { type Database, type Driver, preparePlain, type Statement } from './driver.js'
import { transactionError } from './errors.js'
import { insertInto, type Place } from './log-connection.js'
import { findNonce, insertEntry, type Names } from './schema.js'

interface Statements {
  readonly insert: Statement
  readonly find: Statement
}

export class Transactions {
  readonly #path: string
  readonly #names: Names
  readonly #driver: Driver
  /** Those of each connection that was seen: preparing them takes longer than the insert. */
  readonly #statements = new WeakMap<Database, Statements>()

  constructor(path: string, names: Names, driver: Driver) {
    this.#path = path
    this.#names = names
    this.#driver = driver
  }

  /**
   * Stores the entry in the transaction that is open on the connection.
   *
   * @throws TypeError for what is no connection to the file with a transaction; `SseError` with `ERR_SSE_LOG_DOWN`
   * if SQLite refuses the insert, and then the transaction is rolled back.
   */
  insert(connection: unknown, entry: Omit<Entry, 'id'>): Place {
    this.#checkDriver(connection)
    if (!isInTransaction(connection)) {
      throw new TypeError(
        'append(): transaction must be a connection on which BEGIN IMMEDIATE was run; got one without a transaction',
      )
    }
    if (!this.#statements.has(connection)) this.#checkFile(connection)
    try {
      const { insert, find } = this.#statementsOf(connection)
      return insertInto(insert, () => find, entry)
    } catch (error) {
      // As PostgreSQL does. An app that commits without waiting for the promise would else lose the event.
      rollBack(connection)
      throw transactionError(error)
    }
  }

  #checkDriver(given: unknown): asserts given is Database {
    if (given instanceof this.#driver) return
    const { exec, prepare } = Object(given)
    const { name } = this.#driver
    if (typeof exec !== 'function' || typeof prepare !== 'function') {
      throw new TypeError(
        `append(): transaction must be a ${name} on which BEGIN IMMEDIATE was run; got ${got(given)}`,
      )
    }
    // https://www.sqlite.org/howtocorrupt.html#_multiple_copies_of_sqlite_linked_into_the_same_application
    throw new TypeError(
      `append(): transaction must be a ${name}, as the log has opened the file by it, and two copies of SQLite in one process may damage a file; got an object of another driver; give the class of yours to sqliteLog({ driver })`,
    )
  }

  #statementsOf(connection: Database): Statements {
    const known = this.#statements.get(connection)
    if (known !== undefined) return known
    const statements = {
      insert: preparePlain(connection, insertEntry(this.#names)),
      find: preparePlain(connection, findNonce(this.#names)),
    }
    this.#statements.set(connection, statements)
    return statements
  }

  #checkFile(connection: Database): void {
    const files = preparePlain(connection, 'PRAGMA database_list').all()
    const path = files.find(({ name }) => name === 'main')?.file
    const isOurs = typeof path === 'string' && path !== '' && fileOf(path) === fileOf(this.#path)
    if (isOurs) return
    throw new TypeError(
      `append(): transaction must be a connection to the file of the log, ${this.#path}; got one to ${got(path || 'memory')}`,
    )
  }
}

function isInTransaction(connection: Database): boolean {
  try {
    const isOpen = connection.inTransaction ?? connection.isTransaction
    if (isOpen !== undefined) return isOpen
  } catch {
    // It was closed.
    return false
  }
  // Node before 22.16 does not tell, but SQLite refuses a transaction within another one.
  try {
    connection.exec('BEGIN')
  } catch {
    return true
  }
  connection.exec('ROLLBACK')
  return false
}
