/** Ends streams so that their clients come back elsewhere, and not all at once. */

import type { Target } from '../delivery/target.js'
import { randomBetween } from '../lib/random.js'
import type { EventStream } from '../stream/stream.js'

/** Milliseconds after which a dismissed browser comes back, drawn for each. */
const RETRY: readonly [number, number] = [1000, 5000]

/** How often the streams whose turn has come are ended. */
const STEP_MS = 20

/** Ends a stream without a close event, with a random `retry`. */
export function dismissToReturn(stream: EventStream): void {
  stream.dismiss('drain', randomBetween(RETRY))
}

/** Dismisses all members within `spread` milliseconds, evenly. */
export async function drain(everyone: Target, spread: number): Promise<void> {
  const streams = [...everyone.members()]
  const start = performance.now()
  for (let next = 0; everyone.size > 0; ) {
    const elapsed = performance.now() - start
    const share = elapsed >= spread ? 1 : elapsed / spread
    const due = Math.floor(streams.length * share)
    while (next < due) dismissToReturn(streams[next++] as EventStream)
    // A stream that has not opened yet ends as soon as it does.
    if (next === streams.length) return
    await new Promise(resolve => setTimeout(resolve, STEP_MS))
  }
}
