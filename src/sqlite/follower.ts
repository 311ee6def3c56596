/**
 * Reads whenever there may be something new: after commits of this process, when the bell rings, and otherwise every
 * `pollMs`. Whether another connection has committed, SQLite tells without looking at rows.
 */
import { Bell } from './bell.js'
import { whenFree } from './busy.js'
import type { SqliteConnection } from './connection.js'

export interface FollowerOptions {
  readonly path: string
  readonly timeout: number
  readonly pollMs: number
}

export class Follower {
  readonly #options: FollowerOptions
  readonly #bell = new Bell(() => this.#look())
  /** Something was committed that may not have been read. */
  #mustRead = true
  /** There may be news, but the last look may have been before. */
  #mustLook = false
  #wake = () => {}

  constructor(options: FollowerOptions) {
    this.#options = options
  }

  /** This process has committed something. */
  wake(): void {
    this.#mustRead = true
    this.#look()
  }

  /**
   * Follows the file until the connection fails.
   *
   * @param read reads what is new, and resolves to whether that was all.
   */
  async follow(
    connection: Pick<SqliteConnection<unknown>, 'checkFile' | 'closed' | 'hasChanged'>,
    onHealthy: () => void,
    read: () => Promise<boolean>,
  ): Promise<never> {
    const { path, pollMs, timeout } = this.#options
    void connection.closed.then(() => this.#look())
    this.#mustRead = true
    try {
      this.#bell.watch(path)
      for (let checkedAt = performance.now(); ; ) {
        this.#mustLook = false
        if (this.#mustRead || (await whenFree(timeout, () => connection.hasChanged()))) {
          // Before the read: what this process commits after it must be read again.
          this.#mustRead = false
          while (!(await read())) await new Promise(setImmediate)
        }
        onHealthy()
        if (!this.#mustLook) await this.#news(pollMs)
        if (performance.now() - checkedAt < pollMs) continue
        checkedAt = performance.now()
        connection.checkFile()
      }
    } finally {
      this.#bell.close()
    }
  }

  #look(): void {
    this.#mustLook = true
    this.#wake()
  }

  /** Resolves when there may be news, and at the latest after so many milliseconds. */
  #news(milliseconds: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, milliseconds).unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
