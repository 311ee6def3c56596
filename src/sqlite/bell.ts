/**
 * Says when another connection may have committed. SQLite tells nobody, but every commit writes to the `-wal` file,
 * which the system can watch (inotify on Linux).
 *
 * The system tells of the write, which is a moment before the commit becomes visible, and with `synchronous: 'full'`
 * as long before as the disk takes. So a few more looks follow. They are all made, even if one has found something:
 * that may have been an earlier commit.
 *
 * Only this file is watched. Where a watcher opens its file (kqueue), closing it would also drop the locks that this
 * process has on it, and SQLite locks the other two: https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
 */
import { type FSWatcher, watch } from 'node:fs'

/** The pauses before further looks, in ms. */
const PAUSES_MS = [1, 2, 4, 8, 16, 32, 64, 128, 256]

export class Bell {
  readonly #ring: () => void
  #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout | undefined

  /** @param ring looks whether there is something new. */
  constructor(ring: () => void) {
    this.#ring = ring
  }

  /** @param path of the database. Where nothing can be watched, only the poll finds what is new. */
  watch(path: string): void {
    this.close()
    try {
      this.#watcher = watch(`${path}-wal`, { persistent: false }, () => this.#look(0))
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      this.#watcher = undefined
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#watcher?.close()
    this.#watcher = undefined
  }

  #look(index: number): void {
    this.#ring()
    clearTimeout(this.#timer)
    const milliseconds = PAUSES_MS[index]
    if (milliseconds === undefined) return
    this.#timer = setTimeout(() => this.#look(index + 1), milliseconds).unref()
  }
}
