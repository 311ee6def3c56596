/**
 * The watchers of runs. Changes are read by number, after the last one that was seen, and a watcher is called
 * without news: it then reads the run, of which this process may have nothing to read.
 */
import { type RunListener, Watcher } from '../log/watcher.js'
import { CHUNK_ROWS, type RunsConnection } from './runs-connection.js'

export class RunWatch {
  /** By run, each with the last change before it began to watch. */
  readonly #watchers = new Map<string, Map<Watcher, number>>()
  #connection: RunsConnection | undefined
  #last = 0

  /** @param id as it is stored */
  watch(id: string, listener: RunListener): () => void {
    const watcher = new Watcher(listener)
    const watchers = this.#watchers.get(id) ?? new Map()
    this.#watchers.set(id, watchers.set(watcher, this.#connection?.lastChange() ?? 0))
    // Else it is called once the file is open.
    if (this.#connection !== undefined) watcher.call()
    return () => {
      watcher.stop()
      watchers.delete(watcher)
      if (watchers.size === 0 && this.#watchers.get(id) === watchers) this.#watchers.delete(id)
    }
  }

  /** A connection stands: whatever has changed before is found by reading. */
  begin(connection: RunsConnection): void {
    this.#connection = connection
    this.#last = connection.lastChange()
    this.#callAll()
  }

  end(): void {
    this.#connection = undefined
  }

  /** Reads what has changed; resolves to whether that was all. */
  async read(connection: RunsConnection): Promise<boolean> {
    const changes = connection.changes(this.#last)
    // The last one is still there, unless others were deleted with it.
    if (this.#last > 0 && changes[0]?.change !== this.#last) {
      this.#last = connection.lastChange()
      this.#callAll()
      return true
    }
    const newest = new Map<string, number>()
    for (const { change, id } of changes) if (change > this.#last) newest.set(id, change)
    this.#last = changes.at(-1)?.change ?? 0
    for (const [id, change] of newest) {
      for (const [watcher, since] of this.#watchers.get(id) ?? []) {
        if (change > since) watcher.call()
      }
    }
    return changes.length < CHUNK_ROWS
  }

  close(): void {
    for (const watchers of this.#watchers.values())
      for (const watcher of watchers.keys()) watcher.stop()
    this.#watchers.clear()
  }

  #callAll(): void {
    for (const watchers of this.#watchers.values())
      for (const watcher of watchers.keys()) watcher.call()
  }
}
