/** Names of events, channels and clients: what they may be, and nothing else. */
import { got } from './errors.js'

const PRINTABLE = /^[\x20-\x7e]*$/

/** ASCII without controls: what every client can send back in a header. */
export function isPrintable(text: string): boolean {
  return PRINTABLE.test(text)
}

/** Controls, format characters (bidi, zero-width), lone surrogates, line and paragraph separators. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u

/** An event or channel name; throws a TypeError that names the field. */
export function checkName(field: string, name: unknown): string {
  if (typeof name !== 'string') {
    throw new TypeError(`${field} must be a string; got ${got(name)}`)
  }
  if (!PRINTABLE.test(name) && INVISIBLE.test(name)) {
    throw new TypeError(
      `${field} must not contain line breaks, control or invisible characters; got ${got(name)}`,
    )
  }
  if (name.startsWith('sse.')) {
    throw new TypeError(`${field} names that begin with "sse." are reserved; got ${got(name)}`)
  }
  return name
}

/** A client's id as a string; throws a TypeError. */
export function clientIdOf(id: unknown): string {
  const text = typeof id === 'number' ? String(id) : id
  if (isClientId(text)) return text
  throw new TypeError(
    `A client id must be a string of 1 to 256 characters without controls, or a number; got ${got(id)}`,
  )
}

/** What may be a client's id; also a line break in it would forge a target. */
export function isClientId(id: unknown): id is string {
  return typeof id === 'string' && id !== '' && id.length <= 256 && !/[\p{Cc}\p{Cs}]/u.test(id)
}

/** A channel's name; throws a TypeError. */
export function channelName(name: unknown): string {
  if (checkName('channel', name) !== '') return name as string
  throw new TypeError('channel must not be empty')
}
