/** Ends streams so that their clients come back elsewhere, and not all at once. */
import { randomBetween } from './random.js'
import type { EventStream } from './stream.js'

/** Milliseconds after which a dismissed browser comes back, drawn for each. */
const RETRY: readonly [number, number] = [1000, 5000]

/** With `spread`, some streams end every so many milliseconds. */
const STEP_MS = 20

/** Ends a stream without a close event, with a random `retry`. */
export function dismissToReturn(stream: EventStream): void {
  stream.dismiss('drain', randomBetween(RETRY))
}

/** Dismisses all streams within `spread` milliseconds, evenly. */
export async function drain(streams: ReadonlySet<EventStream>, spread: number): Promise<void> {
  const until = performance.now() + spread
  for (let left = spread; streams.size > 0; left = until - performance.now()) {
    const steps = Math.max(1, Math.ceil(left / STEP_MS))
    const share = Math.ceil(streams.size / steps)
    for (const stream of [...streams].slice(0, share)) dismissToReturn(stream)
    // Streams that have not opened yet end as soon as they do.
    if (left <= 0) return
    await new Promise(resolve => setTimeout(resolve, STEP_MS))
  }
}
