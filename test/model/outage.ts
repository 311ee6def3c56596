/** How an engine can fail. */
import { type Database, type Driver, findDriver, type Statement } from '../../src/sqlite/driver.js'
import { driver, openDatabase } from '../helpers/sqlite.js'

/** What can be done to an engine. */
export interface Outage {
  readonly isUp: boolean
  /** It is out of reach, or refuses whatever is sent. */
  goAway(): void
  /** It still gets everything, but its replies are lost. */
  goDeaf(): void
  comeBack(): void
}

/** What SQLite has in place of a lost connection: the write lock is taken, or a commit seems to fail. */
export class SqliteOutage implements Outage {
  /** The option `driver` of the logs. */
  readonly driver: Driver
  readonly #path: string
  #other: Database | undefined
  #isDeaf = false

  constructor(path: string) {
    this.#path = path
    const isDeaf = () => this.#isDeaf
    this.driver = class extends findDriver(driver as Driver | undefined) {
      override prepare(sql: string): Statement {
        const statement = super.prepare(sql)
        if (sql !== 'COMMIT') return statement
        return Object.assign(Object.create(statement), {
          run() {
            statement.run()
            // SQLITE_IOERR: the transaction may have been committed or not.
            if (isDeaf()) throw Object.assign(new Error('disk I/O error'), { errcode: 10 })
          },
        })
      }
    }
  }

  get isUp(): boolean {
    return this.#other === undefined && !this.#isDeaf
  }

  goAway(): void {
    if (this.#other !== undefined) return
    this.#other = openDatabase(this.#path)
    this.#other.exec('BEGIN IMMEDIATE')
  }

  goDeaf(): void {
    this.#isDeaf = true
  }

  comeBack(): void {
    this.#isDeaf = false
    this.#other?.close()
    this.#other = undefined
  }
}
