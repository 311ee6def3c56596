/**
 * The watchers of runs. Changes are read by number, after the last one that was seen, and a watcher is called
 * without news: it then reads the run, of which this process may have nothing to read.
 */
import type { RunNews } from '../log/run-store.js'
import { CHUNK_ROWS, type RunsConnection } from './runs-connection.js'

type RunListener = (news: RunNews | undefined) => void

/** Its listener is removed when it stops, so that a call that is on its way does not reach it. */
interface Watcher {
  listener: RunListener | undefined
  /** The last change before it began to watch. */
  readonly since: number
}

export class RunWatch {
  readonly #watchers = new Map<string, Set<Watcher>>()
  #connection: RunsConnection | undefined
  #last = 0

  /** @param id as it is stored */
  watch(id: string, listener: RunListener): () => void {
    const watcher: Watcher = { listener, since: this.#connection?.lastChange() ?? 0 }
    const watchers = this.#watchers.get(id) ?? new Set()
    this.#watchers.set(id, watchers.add(watcher))
    // Else it is called once the file is open.
    if (this.#connection !== undefined) call(watcher)
    return () => {
      watcher.listener = undefined
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
      for (const watcher of this.#watchers.get(id) ?? []) {
        if (change > watcher.since) call(watcher)
      }
    }
    return changes.length < CHUNK_ROWS
  }

  close(): void {
    for (const watchers of this.#watchers.values()) {
      for (const watcher of watchers) watcher.listener = undefined
    }
    this.#watchers.clear()
  }

  #callAll(): void {
    for (const watchers of this.#watchers.values()) for (const watcher of watchers) call(watcher)
  }
}

/** In a microtask of its own, so that a listener that throws keeps no other from its news. */
function call(watcher: Watcher): void {
  queueMicrotask(() => watcher.listener?.(undefined))
}
