/** Texts as SQLite holds them, which is UTF-8 without NUL. */
import { escapeText } from '../log/table.js'

/** Half of a surrogate pair, for which UTF-8 has no bytes. */
const LONE_SURROGATE = /\p{Surrogate}/u

/** The text as it is stored; the drivers do not agree on what becomes of half a surrogate pair. */
export function stored(text: string): string {
  return escapeText(LONE_SURROGATE.test(text) ? Buffer.from(text).toString() : text)
}
