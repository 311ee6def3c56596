/** Somebody who watches a run: what every store of runs calls. */
import type { RunNews } from './run-store.js'

/** Is called with what has changed, or with nothing if it has to read the run. */
export type RunListener = (news: RunNews | undefined) => void

export class Watcher {
  #listener: RunListener | undefined

  constructor(listener: RunListener) {
    this.#listener = listener
  }

  /** In a microtask of its own, so that a listener that throws keeps no other from its news. */
  call(news?: RunNews): void {
    queueMicrotask(() => this.#listener?.(news))
  }

  /** From now on it is not called, not even with news that is on its way. */
  stop(): void {
    this.#listener = undefined
  }
}
