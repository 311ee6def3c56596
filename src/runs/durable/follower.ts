/** A live reader of a stream: it waits for what comes after a position, without a queue of its own. */
import type { RunNews, RunPage, RunRecord, RunStore } from '../../log/run-store.js'

/** How much is read at once: a page costs as much memory as it has characters. */
export const PAGE = { entries: 10_000, length: 1024 * 1024 }

export class Follower {
  /** The reader has everything up to here. */
  #position: number
  readonly #store: RunStore
  readonly #id: string
  readonly #first: RunRecord
  readonly #unwatch: () => void
  /** Something may have come that the reader has to read from the store. */
  #isBehind = false
  #isStopped = false
  /** Only while the reader waits. News that came at other times would be kept for as long as it is slow. */
  #wake: ((news: RunNews | undefined) => void) | undefined

  /** @param run the stream as it was when the position was its tail. */
  constructor(store: RunStore, id: string, run: RunRecord, position: number) {
    this.#store = store
    this.#id = id
    this.#first = run
    this.#position = position
    this.#unwatch = store.watch(id, news => this.#receive(news))
  }

  /** Goes on after this position. @param isBehind the last page was not all that there is. */
  advance(position: number, isBehind: boolean): void {
    this.#position = position
    if (isBehind) this.#isBehind = true
  }

  /**
   * What comes after the position, or the end of the stream without entries; `'gone'` if it was deleted, and
   * undefined once stopped.
   */
  async next(): Promise<RunPage | 'gone' | undefined> {
    while (!this.#isStopped) {
      const page = this.#isBehind ? await this.#read() : await this.#news()
      if (page === undefined || this.#isStopped) continue
      if (page === 'gone' || !isSame(page.run, this.#first)) return 'gone'
      if (page.entries.length > 0 || page.run.status === 'ended') return page
    }
    return undefined
  }

  /** Ends the waiting and the watch. */
  stop(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    this.#unwatch()
    this.#wake?.(undefined)
  }

  async #read(): Promise<RunPage | 'gone'> {
    this.#isBehind = false
    const page = await this.#store.read(this.#id, this.#position, PAGE)
    return page === undefined || page.after > this.#position ? 'gone' : page
  }

  #news(): Promise<RunNews | undefined> {
    return new Promise(resolve => {
      this.#wake = news => {
        this.#wake = undefined
        resolve(news)
      }
    })
  }

  #receive(news: RunNews | undefined): void {
    // Readers that keep up take the entries from the news: none of them costs the store a read.
    if (news !== undefined && news.after === this.#position && this.#wake !== undefined) {
      this.#wake(news)
      return
    }
    // What the reader has already.
    const isOld = news !== undefined && news.run.tail <= this.#position
    if (isOld && news.run.status === 'open' && isSame(news.run, this.#first)) return
    this.#isBehind = true
    this.#wake?.(undefined)
  }
}

function isSame(a: RunRecord, b: RunRecord): boolean {
  // A fork that was deleted and created again has the generation of its source, as before.
  return (
    a.generation === b.generation &&
    a.createdAt === b.createdAt &&
    (a.status === 'open' || a.status === 'ended')
  )
}
