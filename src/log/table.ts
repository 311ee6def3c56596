/**
 * What the logs in tables of a database have in common: texts, and ids, which are `<generation>-<position>-<nonce>`.
 * After a restore or a failover that lost commits, a database may assign a position again; the nonce then tells the
 * two entries apart.
 */

const ID = /^([0-9a-z]{8})-(\d{1,15})-[\w-]{1,32}$/

export function entryId(generation: string, position: string | number, nonce: string): string {
  return `${generation}-${position}-${nonce}`
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
const ESCAPED = new RegExp(`${ESCAPE}(\\d*)\\.`, 'g')

/**
 * The text types of databases end at NUL, or refuse it, which would fail the whole batch. NULs in a row, as in binary
 * data that passes for text, become their number: one by one, ten million of them would take seconds.
 */
export function escapeText(text: string): string {
  if (!text.includes('\0') && !text.includes(ESCAPE)) return text
  return text.replaceAll(ESCAPE, `${ESCAPE}.`).replace(/\0+/g, run => `${ESCAPE}${run.length}.`)
}

export function unescapeText(text: string): string {
  if (!text.includes(ESCAPE)) return text
  return text.replace(ESCAPED, (_, count) => (count === '' ? ESCAPE : '\0'.repeat(count)))
}
