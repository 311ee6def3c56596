// @ts-check
// The event that every server sends, about 250 bytes on the wire.

/** Occurs once per frame, so that the client can count frames wherever reads split them. */
export const MARK = '~'
export const DIGITS = 8

const SIZE = 160
let text = ''

/**
 * @typedef {{ id: string, event: string, data: { seq: string } }} BenchEvent
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

const WORDS = [
  'apple',
  'bread',
  'cheese',
  'coffee',
  'honey',
  'lemon',
  'olives',
  'pasta',
  'rice',
  'tea',
]
const STATES = ['received', 'paid', 'packed', 'shipped', 'delivered']

/**
 * An order, for measurements of compression: about 180 bytes and 30 more per item.
 *
 * @param {number} seq @param {number} count of items
 * @returns {BenchEvent}
 */
export function orderAt(seq, count) {
  let state = seq
  // The generator of Numerical Recipes, so that every server sends the same.
  const random = (/** @type {number} */ below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state >>> 8) % below
  }
  for (let i = 0; i < 5; i += 1) random(2)
  const data = {
    seq: MARK + String(seq).padStart(DIGITS, '0'),
    order: random(2 ** 24).toString(16),
    state: STATES[random(STATES.length)],
    customer: 10_000 + random(90_000),
    updatedAt: new Date(1_750_000_000_000 + seq * 1234).toISOString(),
    items: Array.from({ length: count }, () => ({
      name: WORDS[random(WORDS.length)],
      count: 1 + random(9),
      price: random(10_000) / 100,
    })),
  }
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
