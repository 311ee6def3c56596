/**
 * Where a reader of a run is, as a text: it is the `id` of the events, and the offset of Durable Streams. All
 * have one width and sort like the positions they stand for. The generation tells a run from an earlier one of
 * the same id, whose offsets would point to other entries.
 */
import type { RunRecord } from '../log/run-store.js'

/** As many digits as the greatest safe integer has. */
const DIGITS = 16
const ZEROS = '0'.repeat(DIGITS)

const PATTERN = /^(\d{16})-([0-9a-z]{8})$/

/** The offset after the entry at this position; 0 for the beginning. */
export function formatOffset(
  position: number,
  { generation }: Pick<RunRecord, 'generation'>,
): string {
  const digits = String(position)
  // A late reader of a long run has thousands formatted at once; `padStart` takes twice the time.
  return `${ZEROS.slice(digits.length)}${digits}-${generation}`
}

/** Undefined for a text that is no offset. Do not trust it: it comes from a client. */
export function parseOffset(text: string): { position: number; generation: string } | undefined {
  const [, digits, generation] = PATTERN.exec(text) ?? []
  if (digits === undefined || generation === undefined) return undefined
  const position = Number(digits)
  return Number.isSafeInteger(position) ? { position, generation } : undefined
}
