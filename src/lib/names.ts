/** Which names events, channels and clients may have. */
import { got } from './errors.js'

const PRINTABLE = /^[\x20-\x7e]*$/

/** Whether it is printable ASCII, which every client can send back in a header. */
export function isPrintable(text: string): boolean {
  return PRINTABLE.test(text)
}

/** Controls, format characters (bidi, zero-width), lone surrogates, line and paragraph separators. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u

/** Returns the name of an event or channel. @throws TypeError that names the field. */
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
    throw new TypeError(`${field} must not begin with "sse." (reserved); got ${got(name)}`)
  }
  return name
}

/** Returns a client's id as a string. @throws TypeError for anything else. */
export function clientIdOf(id: unknown): string {
  const text = typeof id === 'number' ? String(id) : id
  if (isClientId(text)) return text
  throw new TypeError(
    `A client id must be a string of 1 to 256 characters without controls, or a number; got ${got(id)}`,
  )
}

/** Whether it can be a client's id. A line break in it would forge a target (see `formatTarget`). */
export function isClientId(id: unknown): id is string {
  return typeof id === 'string' && id !== '' && id.length <= 256 && !/[\p{Cc}\p{Cs}]/u.test(id)
}

/** Returns a channel's name. @throws TypeError for anything else. */
export function channelName(name: unknown): string {
  if (checkName('channel', name) !== '') return name as string
  throw new TypeError('channel must not be empty')
}
