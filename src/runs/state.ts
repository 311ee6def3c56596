/** What becomes of a run, as apps and pages see it. */
import type { RunRecord } from '../log/run-store.js'
import { formatOffset } from './offset.js'

/**
 * - `open`: its producer is at work.
 * - `done`: the producer has returned.
 * - `failed`: the producer has thrown; see `error`.
 * - `stopped`: by `runs.stop(id)`.
 * - `lost`: its process has died, or could not reach the store for longer than the lease.
 */
export type RunState = 'open' | 'done' | 'failed' | 'stopped' | 'lost'

/** What is known of a run: `runs.get(id)`. */
export interface RunInfo {
  readonly id: string
  readonly state: RunState
  /** What readers are told of a failure, as `onError` returned it; only of a run that has failed. */
  readonly error: string | undefined
  /** The offset after its newest event: a reader that has it has everything. */
  readonly offset: string
  /** How many events it has had. */
  readonly length: number
  readonly startedAt: Date
  /** Undefined while it is open. */
  readonly endedAt: Date | undefined
}

/** How a run has ended, as the store keeps it and as the close event tells it. */
export interface Ending {
  readonly state: Exclude<RunState, 'open'>
  readonly error?: string | undefined
}

export function formatEnding(ending: Ending): string {
  return JSON.stringify(ending)
}

export function endingOf({ ending }: Pick<RunRecord, 'ending'>): Ending {
  try {
    return JSON.parse(ending) as Ending
  } catch {
    // Ended through another face of the same store, which gives no state.
    return { state: 'done' }
  }
}

export function infoOf(id: string, record: RunRecord): RunInfo {
  const ending: Partial<Ending> = record.status === 'open' ? {} : endingOf(record)
  return {
    id,
    state: ending.state ?? 'open',
    error: ending.error,
    offset: formatOffset(record.tail, record),
    length: record.tail,
    startedAt: new Date(record.createdAt),
    endedAt: record.endedAt === undefined ? undefined : new Date(record.endedAt),
  }
}
