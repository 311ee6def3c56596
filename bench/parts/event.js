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

/** The client that a targeted event is for. @param {number} seq @param {number} clients */
export function targetOf(seq, clients) {
  return seq % clients
}
