// @ts-check
// The event that every server sends, about 250 bytes on the wire.

/** Occurs once per frame, so that the client can count frames wherever reads split them. */
export const MARK = '~'
export const DIGITS = 8

const SIZE = 160
let text = ''

/**
 * @typedef {{ id: string, event: string, data: { seq: string, text: string } }} BenchEvent
 *
 * @param {number} seq counts from 1 without gaps over a server's lifetime
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
 * The client id or channel that an event is addressed to. A client's channel is its index modulo the
 * number of channels.
 *
 * @param {number} seq @param {number} groups the number of ids or channels
 */
export function groupOf(seq, groups) {
  return seq % groups
}

/** The machine's monotonic clock in ms, the same in every process. */
export function monotonic() {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e3 + nanoseconds / 1e6
}
