/**
 * Cursors inside history. A reader that starts further back than the tail (`replay: 'all'` or `'latest'`)
 * reads history up to where it opened: removals of its client in there are about an earlier visit, and
 * with `'latest'` only the newest entries are shown. A client that is cut off in the middle comes back with
 * the id of an entry in there, which must also say where that history ends and how it is read:
 *
 *     <id of the entry>.<id at which the reader opened>[.latest]
 */

/** What is appended to the id of an entry in history. */
export function historySuffix(openedAtId: string, latestOnly: boolean): string {
  return `.${openedAtId}${latestOnly ? '.latest' : ''}`
}

/** The parts of a cursor that a client brought. None of them can be trusted. */
export function parseCursor(cursor: string) {
  const [id = '', openedAtId, mode] = cursor.split('.', 3)
  return { id, openedAtId, latestOnly: mode === 'latest' }
}
