/**
 * How an entry is stored in a Redis stream: the fields `n` (nonce), `t` (target), `f` (frame) and, if
 * it has a key, `k`. The entry's id is `<ms>-<seq>-<nonce>`, which begins with the id of the row. After
 * a restart without data Redis may assign a row id again; the nonce then tells the two entries apart.
 */
import type { Entry } from '../log/log.js'
import { isNonce } from '../log/shared.js'

/** One entry of the stream as it stands in replies of Redis. */
export type Row = readonly [id: string, fields: readonly string[]]

const ID = /^(\d{1,15})-(\d{1,15})-[\w-]{1,32}$/

export function toFields({ nonce, target, frame, key }: Omit<Entry, 'id'>): string[] {
  const fields = ['n', nonce, 't', target, 'f', frame]
  return key === undefined ? fields : [...fields, 'k', key]
}

/** Undefined for a row that another program wrote. */
export function toEntry([id, fields]: Row): Entry | undefined {
  const [n, nonce, t, target, f, frame, k, key] = fields
  if (n !== 'n' || t !== 't' || f !== 'f') return undefined
  if (nonce === undefined || target === undefined || frame === undefined) return undefined
  if (!isNonce(nonce)) return undefined
  const entryId = `${id}-${nonce}`
  if (k === 'k' && key !== undefined) return { id: entryId, nonce, target, key, frame }
  return { id: entryId, nonce, target, frame }
}

/** The order of two entry ids; NaN if either is not one. */
export function compareIds(a: string, b: string): number {
  const x = ID.exec(a)
  const y = ID.exec(b)
  if (x === null || y === null) return Number.NaN
  return Number(x[1]) - Number(y[1]) || Number(x[2]) - Number(y[2])
}

/** The order of two row ids. */
export function compareRowIds(a: string, b: string): number {
  const [aMs, aSeq] = split(a)
  const [bMs, bSeq] = split(b)
  return aMs - bMs || aSeq - bSeq
}

/** The largest row id below this one: exclusive ranges, `(id`, require Redis 6.2. */
export function idBefore(id: string): string {
  const [ms, seq] = split(id)
  // Without a sequence number, the end of a range is the last row of that millisecond.
  return seq > 0 ? `${ms}-${seq - 1}` : String(Math.max(0, ms - 1))
}

export function isSameRow(a: Row | undefined, b: Row): boolean {
  if (a === undefined || a[0] !== b[0] || a[1].length !== b[1].length) return false
  return a[1].every((field, index) => field === b[1][index])
}

function split(id: string): [ms: number, seq: number] {
  const dash = id.indexOf('-')
  return [Number(id.slice(0, dash)), Number(id.slice(dash + 1))]
}
