/** How an entry is stored. */
import type { Entry } from '../log/log.js'
import { entryId, unescapeText } from '../log/table.js'

/** A row of the log, in the order of {@link COLUMNS}; a bigint comes as a string. */
export type Row = readonly [
  position: string,
  nonce: string,
  target: string,
  key: string | null,
  frame: string,
]

export const COLUMNS = 'position, nonce, target, key, frame'

export function toEntry(generation: string, [position, nonce, target, key, frame]: Row): Entry {
  const id = entryId(generation, position, nonce)
  const entry = { id, nonce, target: unescapeText(target), frame: unescapeText(frame) }
  return key === null ? entry : { ...entry, key: unescapeText(key) }
}
