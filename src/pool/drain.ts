/** Ends streams so that their clients reconnect elsewhere, and not all at once. */
import { randomBetween } from '../lib/random.js'
import type { Stream } from '../stream/stream.js'
import type { Members } from './members.js'

/** The reconnect delay in milliseconds, drawn at random for each stream. */
const RETRY_MS: readonly [number, number] = [1000, 5000]

/** How often the streams whose turn has come are ended, in milliseconds. */
const STEP_MS = 20

/** Ends a stream without a close event and with a random `retry`. */
export function drainStream(stream: Stream): void {
  stream.close('drain', { retry: randomBetween(RETRY_MS) })
}

/** Ends all streams evenly within `spread` milliseconds, and waits until their ends are sent. */
export async function drain(members: Members, spread: number): Promise<void> {
  const streams = [...members.streams()]
  const start = performance.now()
  for (let next = 0; members.size > 0; ) {
    const elapsed = performance.now() - start
    const share = elapsed >= spread ? 1 : elapsed / spread
    const due = Math.floor(streams.length * share)
    while (next < due) {
      const stream = streams[next++] as Stream
      drainStream(stream)
      // Its socket is full.
      if (stream.isOpen) members.connections.end(stream)
    }
    // A stream that has not opened yet ends as soon as it does.
    if (next === streams.length) break
    await new Promise(resolve => setTimeout(resolve, STEP_MS))
  }
  await members.connections.flush()
}
