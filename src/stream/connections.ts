/**
 * The connections of a pool's streams, as far as they outlive the streams or need a timer: those whose client takes
 * nothing, those that still have to send the end of a stream, and the HTTP/2 sessions to leave.
 */
import type { Http2Session } from 'node:http2'
import { leaveSession } from './transport/http2.js'

/** How long a closing pool waits for clients to take the end of their streams, in milliseconds. */
const FLUSH_MS = 5000

/** What is known here of a stream. */
export interface Outgoing {
  /** Bytes written that the kernel has not taken yet. */
  readonly unsentBytes: number
  /** Grows whenever the kernel takes something while the stream is watched. */
  readonly takenBytes: number
  /** Whether its socket is full. */
  readonly isBlocked: boolean
  unwatched(): void
  /** The client has taken nothing for too long. */
  stalled(): void
  /** Frees the connection of a stream whose end cannot be sent. */
  giveUp(): void
}

export class Connections {
  readonly #stallTimeout: number
  /** Streams with unsent bytes, and how many bytes had been taken at the last look. */
  readonly #unsent = new Map<Outgoing, number>()
  /** Streams that end, but whose end is still on its way. */
  readonly #ended = new Set<Outgoing>()
  /** The HTTP/2 sessions that carry or have carried a stream. */
  readonly #sessions = new Set<Http2Session>()
  /** How many streams each connection carries. */
  readonly #carried = new Map<object, number>()
  #pipelined = 0
  #timer: NodeJS.Timeout | undefined
  #onFlushed = () => {}

  constructor(stallTimeout: number) {
    this.#stallTimeout = stallTimeout
  }

  /** Streams that wait behind another one on their connection: a pipelining connection takes one place. */
  get pipelined(): number {
    return this.#pipelined
  }

  /** How many streams a connection carries. */
  carriedBy(connection: object): number {
    return this.#carried.get(connection) ?? 0
  }

  join(connection: object): void {
    const before = this.carriedBy(connection)
    this.#carried.set(connection, before + 1)
    if (before > 0 && !isSession(connection)) this.#pipelined += 1
  }

  leave(connection: object): void {
    const left = this.carriedBy(connection) - 1
    if (left > 0) this.#carried.set(connection, left)
    else this.#carried.delete(connection)
    if (left > 0 && !isSession(connection)) this.#pipelined -= 1
  }

  /** A client that keeps its HTTP/2 session after its streams have ended would hold up `server.close()`. */
  addSession(session: Http2Session): void {
    if (this.#sessions.has(session)) return
    this.#sessions.add(session)
    session.once('close', () => this.#sessions.delete(session))
  }

  /**
   * Watches a stream that holds less than its high-water mark. Node reports only when a socket above the mark
   * has emptied, and every heartbeat would restart Node's timeout.
   */
  watch(stream: Outgoing): void {
    this.#unsent.set(stream, stream.takenBytes)
    this.#checkLater()
  }

  /** Nothing of the stream has to be sent any more. */
  forget(stream: Outgoing): void {
    this.#unwatch(stream)
    this.#ended.delete(stream)
    if (this.#ended.size === 0) this.#onFlushed()
  }

  /** The stream has ended, or ends as soon as its client has taken more: it is watched until all is sent. */
  end(stream: Outgoing): void {
    this.#ended.add(stream)
    this.watch(stream)
  }

  /**
   * Waits until the ended streams are sent, then leaves the sessions. Otherwise `server.close()`, which destroys
   * idle connections, would also destroy what TLS has not handed to the kernel yet.
   */
  async flush(): Promise<void> {
    if (this.#ended.size > 0) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, Math.min(FLUSH_MS, this.#stallTimeout))
        this.#onFlushed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    for (const stream of this.#ended) stream.giveUp()
    for (const session of this.#sessions) leaveSession(session)
  }

  #unwatch(stream: Outgoing): void {
    if (!this.#unsent.delete(stream)) return
    stream.unwatched()
    if (this.#unsent.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #checkLater(): void {
    this.#timer ??= setTimeout(() => this.#check(), this.#stallTimeout).unref()
  }

  #check(): void {
    this.#timer = undefined
    for (const [stream, taken] of this.#unsent) {
      if (stream.unsentBytes === 0) {
        if (!this.#ended.has(stream)) this.#unwatch(stream)
      } else if (stream.isBlocked || stream.takenBytes > taken) {
        // Blocked: Node's own timeout sees progress within a single large write.
        this.#unsent.set(stream, stream.takenBytes)
      } else {
        this.#unwatch(stream)
        stream.stalled()
      }
    }
    if (this.#unsent.size > 0) this.#checkLater()
  }
}

/** Whether the connection is an HTTP/2 session, whose streams all run at once. */
export function isSession(connection: object): boolean {
  return 'goaway' in connection
}
