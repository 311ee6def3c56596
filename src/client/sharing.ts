/**
 * One stream for all tabs of an origin. The tab that holds a Web Lock leads: it has the connection and
 * broadcasts what arrives. When it goes, the browser passes the lock on.
 *
 * Nothing is lost on the way, because every tab knows its own cursor. A new leader continues from its own.
 * A tab that is further back says so, and the leader then goes back to there; see position.ts for what the
 * other tabs do with what they have had already.
 *
 * A tab takes what is broadcast only after a `start` of the current term, which says where the stream
 * continues: what came before it may have been missed.
 */
import type { Connection } from './connection.js'
import { HEARTBEAT, type News } from './news.js'
import { compareIds } from './order.js'
import type { Position } from './position.js'

/** A leader that is frozen does not answer. One that is only busy may take this long. */
const ANSWER_MS = 3000
const SILENT_HEARTBEATS = 2.5

/** From each tab to the leader: where this tab is. */
interface Hello {
  readonly term: number
  readonly cursor: string
}

/** From the leader to all tabs. Terms grow, so the words of a leader that was frozen meanwhile are old. */
interface Broadcast {
  readonly term: number
  readonly news: News
}

/** The page as its part of the stream. */
export interface Tab {
  readonly position: Position
  /** Returns true if the page has missed what comes before, and the stream must go back to its cursor. */
  receive(news: News): boolean
}

export class SharedStream {
  readonly #name: string
  readonly #connection: Connection
  readonly #tab: Tab
  #channel: BroadcastChannel | undefined
  /** Gives the lock back. Defined while this tab leads. */
  #release: (() => void) | undefined
  #queue: AbortController | undefined
  #term = 0
  #isInStep = false
  /** How often the leader is heard at least, in milliseconds. Until a heartbeat says so, this is a guess. */
  #interval = 24_000
  #watch: ReturnType<typeof setTimeout> | undefined

  constructor(name: string, connection: Connection, tab: Tab) {
    this.#name = name
    this.#connection = connection
    this.#tab = tab
  }

  join(): void {
    this.#channel = new BroadcastChannel(this.#name)
    this.#channel.onmessage = ({ data }) => this.#hear(data)
    this.#request()
    this.#hello()
  }

  /** Leaves the stream to the other tabs. */
  leave(): void {
    clearTimeout(this.#watch)
    this.#queue?.abort()
    this.#queue = undefined
    this.#resign()
    this.#channel?.close()
    this.#channel = undefined
  }

  /** Call when timers may have stood still, or the network may be back. */
  wake(): void {
    if (this.#release) this.#connection.wake()
    else this.#hello()
  }

  /** What the connection tells. */
  tell(news: News): void {
    this.#post({ term: this.#term, news })
    if (this.#tab.receive(news)) this.#goBackTo(this.#tab.position.cursor)
  }

  // The leader

  #request(isStolen = false): void {
    const queue = new AbortController()
    this.#queue?.abort()
    this.#queue = queue
    const hold = () =>
      new Promise<void>(release => {
        // The page may have left and come back since it asked, and has asked again.
        if (this.#queue === queue) this.#lead(release)
        else release()
      })
    navigator.locks
      .request(this.#name, isStolen ? { steal: true } : { signal: queue.signal }, hold)
      .catch(error => {
        if (this.#queue !== queue) return
        // No locks here, as in a page without an origin of its own: then there are no other tabs either.
        if (error.name !== 'AbortError') {
          this.#lead(() => {})
          return
        }
        // Another tab thought that this one was frozen, and has the lock now.
        this.#resign()
        this.#request()
        this.#hello()
      })
  }

  #lead(release: () => void): void {
    const { cursor } = this.#tab.position
    // NaN for an id that is none of a koa-sse-pool.
    if (this.#isInStep && compareIds(cursor, cursor) !== 0) {
      console.warn(`${this.#name}: without its ids, tabs may lose or double events`)
    }
    this.#release = release
    // The fraction tells two elections in one millisecond apart: what the first one said last would be taken for news.
    this.#term = Math.max(this.#term + 1, Date.now() + Math.random())
    this.#connection.open(cursor)
    this.#announce()
  }

  #resign(): void {
    this.#connection.close()
    this.#release?.()
    this.#release = undefined
    this.#isInStep = false
  }

  #goBackTo(cursor: string): void {
    const { at } = this.#connection
    if (cursor === '' || (at !== '' && !(compareIds(cursor, at) < 0))) return
    this.#connection.open(cursor)
    this.#announce()
  }

  #announce(): void {
    const { at, state } = this.#connection
    this.tell({ kind: 'start', at })
    this.tell({ kind: 'link', state })
  }

  // The other tabs

  #hear(message: Hello | Broadcast): void {
    if (this.#release) this.#hearAsLeader(message)
    else if ('news' in message && message.term >= this.#term) this.#follow(message)
  }

  #follow({ term, news }: Broadcast): void {
    if (term > this.#term) {
      this.#term = term
      this.#isInStep = false
    }
    if (news.kind === 'start') this.#isInStep = true
    else if (!this.#isInStep) return
    if (news.kind === 'event' && news.type === HEARTBEAT) {
      this.#interval = Number(news.data) || this.#interval
    }
    if (this.#tab.receive(news)) {
      this.#isInStep = false
      this.#hello()
    } else {
      this.#expect(this.#interval * SILENT_HEARTBEATS, () => this.#hello())
    }
  }

  #hearAsLeader(message: Hello | Broadcast): void {
    // The clock was set back since the last election, or this tab was frozen and will lose the lock now.
    if (message.term > this.#term) this.#term = message.term + 1
    if ('cursor' in message) {
      this.#goBackTo(message.cursor)
      this.#announce()
    }
  }

  /** Asks where the stream is. If nobody answers, the leader is frozen and this tab takes its place. */
  #hello(): void {
    this.#post({ term: this.#term, cursor: this.#tab.position.cursor })
    this.#expect(ANSWER_MS, () => this.#request(true))
  }

  /** Calls `otherwise` if the leader says nothing for so many milliseconds. */
  #expect(patience: number, otherwise: () => void): void {
    clearTimeout(this.#watch)
    // Not all tabs at the same time.
    this.#watch = setTimeout(
      () => {
        if (!this.#release) otherwise()
      },
      patience + Math.random() * 1000,
    )
  }

  #post(message: Hello | Broadcast): void {
    this.#channel?.postMessage(message)
  }
}
