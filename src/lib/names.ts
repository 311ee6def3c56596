/** Which names events, channels and clients may have. */
import { got } from './errors.js'

const PRINTABLE = /^[\x20-\x7e]*$/

/** Whether it is printable ASCII, which every client can send back in a header. */
export function isPrintable(text: string): boolean {
  return PRINTABLE.test(text)
}

/**
 * Controls, format characters (bidi, zero-width), lone surrogates, line and paragraph separators. Not
 * ZWNJ and ZWJ (U+200C, U+200D), without which Persian and Hindi words and many emoji are misspelt.
 */
const INVISIBLE = /[\p{Cc}\p{Cs}\u2028\u2029]|(?![\u200c\u200d])\p{Cf}/u

/** Names and keys are kept with each entry, so their length must be limited like the entry's. */
export const MAX_NAME = 256

/** How many channels a request may name: each costs a target and a look-up for each delivery. */
const MAX_CHANNELS = 100

/** Returns the name of an event or channel. @throws TypeError that names the field. */
export function checkName(field: string, name: unknown): string {
  if (typeof name !== 'string') {
    throw new TypeError(`${field} must be a string; got ${got(name)}`)
  }
  if (name.length > MAX_NAME) {
    throw new TypeError(`${field} must have at most ${MAX_NAME} characters; got ${got(name)}`)
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
  return typeof id === 'string' && id !== '' && id.length <= MAX_NAME && !/[\p{Cc}\p{Cs}]/u.test(id)
}

/** Returns a channel's name. @throws TypeError for anything else. */
export function channelName(name: unknown): string {
  if (checkName('channel', name) !== '') return name as string
  throw new TypeError('channel must not be empty')
}

/**
 * Checks the channels that a request joins, or an event is sent to.
 * @param what the beginning of the message.
 * @throws TypeError for a wrong name, or for too many.
 */
export function checkChannels(names: readonly unknown[], what = 'A stream may join'): void {
  if (names.length > MAX_CHANNELS) {
    throw new TypeError(`${what} at most ${MAX_CHANNELS} channels; got ${names.length}`)
  }
  for (const name of names) channelName(name)
}
