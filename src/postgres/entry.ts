/**
 * How an entry is stored, and its id: `<generation>-<position>-<nonce>`. After a restore or a failover that
 * lost commits, PostgreSQL may assign a position again; the nonce then tells the two entries apart.
 */
import type { Entry } from '../log/log.js'

/** A row of the log, in the order of {@link COLUMNS}; a bigint comes as a string. */
export type Row = readonly [
  position: string,
  nonce: string,
  target: string,
  key: string | null,
  frame: string,
]

export const COLUMNS = 'position, nonce, target, key, frame'

const ID = /^([0-9a-z]{8})-(\d{1,15})-[\w-]{1,32}$/

export function entryId(generation: string, position: string | number, nonce: string): string {
  return `${generation}-${position}-${nonce}`
}

export function toEntry(generation: string, [position, nonce, target, key, frame]: Row): Entry {
  const id = entryId(generation, position, nonce)
  const entry = { id, nonce, target: unescapeText(target), frame: unescapeText(frame) }
  return key === null ? entry : { ...entry, key: unescapeText(key) }
}

/** The order of two ids; NaN if either is not one, or they are of different tables. */
export function compareIds(a: string, b: string): number {
  const x = ID.exec(a)
  const y = ID.exec(b)
  if (x === null || y === null || x[1] !== y[1]) return Number.NaN
  return Number(x[2]) - Number(y[2])
}

/** Begins an escape, which ends with a full stop. A control character, which texts hardly ever contain. */
const ESCAPE = '\u0001'

/**
 * The text type of PostgreSQL holds every character except NUL, which would fail the whole batch. NULs in a row, as in
 * binary data that passes for text, become their number: one by one, ten million of them would take seconds.
 */
export function escapeText(text: string): string {
  if (!text.includes('\0') && !text.includes(ESCAPE)) return text
  return text.replaceAll(ESCAPE, `${ESCAPE}.`).replace(/\0+/g, run => `${ESCAPE}${run.length}.`)
}

export function unescapeText(text: string): string {
  if (!text.includes(ESCAPE)) return text
  return text.replace(ESCAPED, (_, count) => (count === '' ? ESCAPE : '\0'.repeat(count)))
}

const ESCAPED = new RegExp(`${ESCAPE}(\\d*)\\.`, 'g')
