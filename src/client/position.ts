/**
 * Where one page is in a stream that it may share with others. The stream can be behind the page: when a
 * tab takes over, it continues from the oldest cursor of all, and each tab skips what it has had.
 */
import { END_ID, GAP } from './news.js'
import { compareIds } from './order.js'

/**
 * - `new`: give it to the page.
 * - `had`: the page has had it.
 * - `behind`: what comes before it was for this page and never arrived. The stream must go back.
 */
export type Verdict = 'new' | 'had' | 'behind'

export class Position {
  /** The id of the newest entry that the page has; `''` if it has none. */
  cursor: string
  /** The stream has passed on everything up to this id. */
  #streamAt = ''
  readonly #isShared: boolean

  constructor(cursor: string, isShared: boolean) {
    this.cursor = cursor
    this.#isShared = isShared
  }

  /** The stream continues after `at`. `lost`: the page's cursor is from a log that is gone. */
  start(at: string): 'new' | 'behind' | 'lost' {
    this.#streamAt = at
    if (this.cursor === '') this.cursor = at
    if (this.cursor === at) return 'new'
    if (at === '') return 'behind'
    const order = compareIds(at, this.cursor)
    if (order <= 0) return 'new'
    if (order > 0) return 'behind'
    this.cursor = at
    return 'lost'
  }

  take(type: string, id: string | undefined): Verdict {
    // Sent directly to the connection, to whichever pages are there.
    if (id === undefined || id === END_ID) return 'new'
    const from = this.#streamAt
    this.#streamAt = id
    if (this.#isShared) {
      const order = compareIds(id, this.cursor)
      if (order <= 0) return 'had'
      // The gap begins at the stream's position. A page that is ahead of it may have missed nothing.
      if (type === GAP && order > 0 && compareIds(this.cursor, from) > 0) return 'behind'
    }
    this.cursor = id
    return 'new'
  }
}
