// @ts-check
// What is sent: the same event for every server, about 250 bytes on the wire.

/** Occurs once in a frame, so that the client counts frames however the reads cut them. */
export const MARK = '~'
export const DIGITS = 8

const SIZE = 160
let text = ''

/**
 * @typedef {{ id: string, event: string, data: { seq: string, text: string } }} BenchEvent
 *
 * @param {number} seq counts from 1, without a gap, over a server's whole life
 * @param {number} [size] of its text
 * @returns {BenchEvent}
 */
export function eventAt(seq, size = SIZE) {
  if (text.length !== size) text = 'x'.repeat(size)
  const data = { seq: MARK + String(seq).padStart(DIGITS, '0'), text }
  return { id: String(seq), event: 'update', data }
}

/** @param {BenchEvent} event */
export function frameOf({ id, event, data }) {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}

/**
 * The client id or channel that an event is for, where each has its own: a client is in the
 * channel of its index, modulo their number.
 *
 * @param {number} seq @param {number} groups how many ids or channels there are
 */
export function groupOf(seq, groups) {
  return seq % groups
}

/** Milliseconds of the machine's monotonic clock, the same in every process. */
export function monotonic() {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e3 + nanoseconds / 1e6
}
