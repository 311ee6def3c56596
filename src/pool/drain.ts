/** Ends streams so that their clients reconnect elsewhere, and not all at once. */
import { setTimeout as pause } from 'node:timers/promises'
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

/** How long streams that have more to read than their sockets take may go on, in milliseconds. */
const GRACE_MS = 2000

/** Ends all streams evenly within `spread` milliseconds, and cuts those that do not read after that. */
export async function drain(members: Members, spread: number): Promise<void> {
  const streams = [...members.streams()]
  const start = performance.now()
  for (let next = 0; members.size > 0; ) {
    const elapsed = performance.now() - start
    const share = elapsed >= spread ? 1 : elapsed / spread
    const due = Math.floor(streams.length * share)
    while (next < due) drainStream(streams[next++] as Stream)
    if (next === streams.length) break
    await pause(STEP_MS)
  }
  const deadline = performance.now() + GRACE_MS
  while (performance.now() < deadline && !streams.every(isDone)) await pause(STEP_MS)
  for (const stream of members.streams()) if (stream.isOpen) stream.close('slow')
}

/**
 * Whether the kernel has everything. Before that, `server.close()` would destroy the connection. A stream
 * that has not opened yet ends as soon as it does, and is not waited for.
 */
function isDone(stream: Stream): boolean {
  return !stream.isOpen && stream.bufferedBytes === 0
}
