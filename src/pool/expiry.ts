/**
 * Ends streams when the rights of their clients run out. One timer serves all streams: those that end in
 * the same second are kept together, so a stream ends at most a second late.
 */
import { SLICE_MS, Slice } from '../delivery/slice.js'
import type { Stream } from '../stream/stream.js'

const STEP_MS = 1000

/** A timer does not notice that the clock was set or the machine was suspended, so look this often. */
const MAX_WAIT_MS = 60_000

export class Expiry {
  /** By the second since the epoch in which they end, rounded up. */
  readonly #due = new Map<number, Set<Stream>>()
  #timer: NodeJS.Timeout | undefined
  /** The second that the timer waits for. */
  #next = Number.POSITIVE_INFINITY

  /** @param time milliseconds since the epoch; with Infinity nothing happens. */
  add(stream: Stream, time: number): void {
    if (time === Number.POSITIVE_INFINITY) return
    const second = Math.ceil(time / STEP_MS)
    const streams = this.#due.get(second) ?? new Set<Stream>()
    this.#due.set(second, streams.add(stream))
    if (second < this.#next) this.#wait(second)
    // Last, because it may have closed already.
    stream.onceClosed(() => this.#forget(stream, second))
  }

  #forget(stream: Stream, second: number): void {
    const streams = this.#due.get(second)
    streams?.delete(stream)
    if (streams?.size === 0) this.#due.delete(second)
    // The timer would keep a pool that the app has dropped.
    if (this.#due.size === 0) this.#wait(Number.POSITIVE_INFINITY)
  }

  #wait(second: number): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#next = second
    if (second === Number.POSITIVE_INFINITY) return
    const wait = Math.min(Math.max(second * STEP_MS - Date.now(), 0), MAX_WAIT_MS)
    this.#timer = setTimeout(() => this.#check(), wait).unref()
  }

  /** In slices, because many sessions may end in the same second. */
  #check(): void {
    const slice = new Slice(SLICE_MS)
    const now = Date.now()
    let next = Number.POSITIVE_INFINITY
    for (const [second, streams] of this.#due) {
      if (second * STEP_MS > now) {
        next = Math.min(next, second)
        continue
      }
      for (const stream of streams) {
        if (slice.isOver()) {
          this.#wait(second)
          return
        }
        // First: one whose response has not opened yet closes later.
        this.#forget(stream, second)
        stream.close('expired')
      }
    }
    this.#wait(next)
  }
}
