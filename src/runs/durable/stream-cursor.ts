/** The cursors of live reads, by which caches collapse readers without answering from one entry for ever. */

/** Section 10.1, "Server-Generated Cursors". */
const EPOCH = Date.UTC(2024, 9, 9)
const INTERVAL_MS = 20_000
const MAX_JITTER_MS = 3_600_000

/** Greater than the client's cursor, and not less than the number of the current interval. */
export function nextCursor(given: string | undefined): string {
  const current = Math.floor((Date.now() - EPOCH) / INTERVAL_MS)
  const last = given !== undefined && /^\d{1,15}$/.test(given) ? Number(given) : -1
  if (last < current) return String(current)
  const jitter = Math.ceil((Math.random() * MAX_JITTER_MS) / INTERVAL_MS)
  return String(last + Math.max(1, jitter))
}
