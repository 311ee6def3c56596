/**
 * How the bodies of a content type become entries of a run, and entries the body of an answer. JSON is stored by
 * message, everything else by body.
 */
import { isUtf8 } from 'node:buffer'
import { arrayOf, messagesOf } from './json-messages.js'
import { mimeOf } from './stream-config.js'

export interface StreamFormat {
  /** How offsets count: by JSON message, or by body. */
  readonly isJson: boolean
  /** In SSE, data is base64 (section 5.8). */
  readonly isBinary: boolean
  /** @throws SyntaxError for a body that is not of the content type. */
  readonly entriesOf: (body: Buffer) => string[]
  readonly bodyOf: (entries: readonly string[]) => Buffer
  /** The data of one SSE event. */
  readonly eventDataOf: (entries: readonly string[]) => string
  /** See {@link countWhole}. */
  readonly mayHoldBack: boolean
}

export function formatOf(contentType: string): StreamFormat {
  const mime = mimeOf(contentType)
  if (mime === 'application/json') return JSON_FORMAT
  return mime.startsWith('text/') ? TEXT_FORMAT : BINARY_FORMAT
}

const JSON_FORMAT: StreamFormat = {
  isJson: true,
  isBinary: false,
  mayHoldBack: false,
  entriesOf: messagesOf,
  bodyOf: messages => Buffer.from(arrayOf(messages)),
  eventDataOf: arrayOf,
}

const BYTES = {
  isJson: false,
  entriesOf: (body: Buffer) => (body.length === 0 ? [] : [entryOf(body)]),
  bodyOf: (entries: readonly string[]) => Buffer.concat(entries.map(bytesOf)),
}

const TEXT_FORMAT: StreamFormat = {
  ...BYTES,
  isBinary: false,
  mayHoldBack: true,
  // Decoded as a whole, so that a character that was split over two bodies is put together.
  eventDataOf: entries => BYTES.bodyOf(entries).toString(),
}

const BINARY_FORMAT: StreamFormat = {
  ...BYTES,
  isBinary: true,
  mayHoldBack: false,
  eventDataOf: entries => BYTES.bodyOf(entries).toString('base64'),
}

/** The first character of an entry says how the rest of it stands for bytes. */
const UTF8 = 't'
const BASE64 = 'b'

/** Bytes as a text. What is not UTF-8, such as one half of a split character, would not come back as it was. */
export function entryOf(bytes: Buffer): string {
  return isUtf8(bytes) ? UTF8 + bytes.toString() : BASE64 + bytes.toString('base64')
}

export function bytesOf(entry: string): Buffer {
  return Buffer.from(entry.slice(1), entry.startsWith(UTF8) ? 'utf8' : 'base64')
}

/** The most bytes of a character that can be missing. */
const MAX_MISSING = 3

/**
 * How many of the entries of a text stream can be sent as SSE now. An event is text, so the two halves of a
 * split character must go into the same one. The last entries, at most 3, are held back if they end within a
 * character; their offset is not passed, so a reader that reconnects gets them again.
 *
 * @param isAll there are no more entries yet: then holding back all of them means to wait for more.
 */
export function countWhole(entries: readonly string[], isAll: boolean): number {
  const least = Math.max(entries.length - MAX_MISSING, isAll ? 0 : 1)
  for (let count = entries.length; count >= least; count--) {
    if (count === 0 || !endsInCharacter(entries, count)) return count
  }
  // It is not UTF-8 at all, and waiting would not make it so.
  return entries.length
}

function endsInCharacter(entries: readonly string[], count: number): boolean {
  // Only an entry that is not UTF-8 by itself can end within a character.
  if ((entries[count - 1] as string).startsWith(UTF8)) return false
  const bytes = BYTES.bodyOf(entries.slice(Math.max(0, count - MAX_MISSING), count))
  for (let back = 1; back <= MAX_MISSING && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back] as number
    // The first byte of a character says how many follow.
    if (byte >= 0xc2) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2)
    if (byte < 0x80) return false
  }
  return false
}
