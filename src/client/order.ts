/** `<number>-<log>`, then a nonce or nothing; what follows a dot says how history is read. */
const ID = /^(\w+)-(\w+)(-[\w-]+)?(?:\.|$)/

/**
 * The order of two ids of the log: negative, zero or positive, and `NaN` if they do not belong to the same
 * log or are not ids of a koa-sse-pool.
 *
 * Ids are `<number>-<log>` (memory, cluster), `<number>-<log>-<nonce>` (NATS) or `<ms>-<sequence>-<nonce>`
 * (Redis). The numbers have no leading zeros, so the longer one is the greater, in base 10 as in base 36.
 */
export function compareIds(a: string, b: string): number {
  const [, x, xPart = '', xNonce] = ID.exec(a) ?? []
  const [, y, yPart = '', yNonce] = ID.exec(b) ?? []
  if (!x || !y || !xNonce !== !yNonce) return Number.NaN
  if (xPart === yPart) return compareNumbers(x, y)
  if (!xNonce || !isSequence(xPart) || !isSequence(yPart)) return Number.NaN
  return compareNumbers(x, y) || compareNumbers(xPart, yPart)
}

/** A sequence of Redis within one millisecond. The creation time of a NATS stream is longer. */
function isSequence(part: string): boolean {
  return /^\d{1,9}$/.test(part)
}

function compareNumbers(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}
