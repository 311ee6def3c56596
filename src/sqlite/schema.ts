/**
 * The tables of a log and the statements on them.
 *
 * SQLite has one writer at a time: nobody else can begin to write before a transaction has committed or was rolled
 * back. So positions become visible in their order, those of an app's own transactions too, and a reader that has
 * seen a position has seen all lower ones. The tricks that PostgreSQL needs for that (src/postgres) are not needed.
 * A position that was rolled back is assigned again, but nobody has seen it.
 */

export interface Names {
  readonly log: string
  readonly state: string
}

/** @param table checked by the options. */
export function namesOf(table: string): Names {
  return { log: `"${table}"`, state: `"${table}_state"` }
}

/** Creates the tables if they are missing, in one transaction, and leaves what there is. */
export function createTables({ log, state }: Names): string {
  return `BEGIN IMMEDIATE;
-- "total" is the size of all entries up to this one, so that bytes can be limited without a scan.
-- AUTOINCREMENT: a table whose newest rows were deleted does not assign their positions again.
CREATE TABLE IF NOT EXISTS ${log} (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  nonce TEXT NOT NULL UNIQUE,
  target TEXT NOT NULL,
  key TEXT,
  frame TEXT NOT NULL,
  total INTEGER NOT NULL,
  at INTEGER NOT NULL
);
-- A file that is deleted and created again gets another generation, so its ids differ from all old ones.
CREATE TABLE IF NOT EXISTS ${state} (
  is_only INTEGER PRIMARY KEY CHECK (is_only = 1),
  generation TEXT NOT NULL
);
INSERT INTO ${state} SELECT 1, lower(hex(randomblob(4))) WHERE NOT EXISTS (SELECT 1 FROM ${state});
COMMIT;`
}

/** No row if somebody has deleted it. */
export function findGeneration({ state }: Names): string {
  return `SELECT generation FROM ${state}`
}

/**
 * Values: nonce, target, key, frame, size in bytes, milliseconds since the epoch. No row if the nonce is there. The
 * generation is read with it: the file may have been replaced since it was opened.
 */
export function insertEntry({ log, state }: Names): string {
  return `INSERT INTO ${log} (nonce, target, key, frame, total, at)
    VALUES (?, ?, ?, ?, coalesce((SELECT total FROM ${log} ORDER BY position DESC LIMIT 1), 0) + ?, ?)
    ON CONFLICT (nonce) DO NOTHING
    RETURNING position, nonce, (SELECT generation FROM ${state}) AS generation`
}

export function findNonce({ log, state }: Names): string {
  return `SELECT position, nonce, (SELECT generation FROM ${state}) AS generation FROM ${log} WHERE nonce = ?`
}

export function readPage({ log }: Names): string {
  return `SELECT position, nonce, target, key, frame FROM ${log} WHERE position >= ? ORDER BY position LIMIT ?`
}

/** One row, in which the position is null if the log is empty. */
export function findNewest({ log, state }: Names): string {
  return `SELECT s.generation, n.position, n.nonce, n.total FROM ${state} AS s
    LEFT JOIN (SELECT position, nonce, total FROM ${log} ORDER BY position DESC LIMIT 1) AS n`
}

/** `position` and `total` are those of the newest entry. */
export function findStart({ log }: Names): string {
  return `SELECT position FROM ${log}
    WHERE position > :position - :maxEntries AND (total > :total - :windowBytes OR position = :position)
    ORDER BY position LIMIT 1`
}

/**
 * Deletes the oldest entries that are beyond a limit, never the newest, and never one from the middle: a reader
 * relies on it that all entries after one that exists exist too. `position` and `total` are those of the newest.
 */
export function deleteOldest({ log }: Names): string {
  return `DELETE FROM ${log} WHERE position <= (
    SELECT max(position) FROM (SELECT position, total, at FROM ${log} ORDER BY position LIMIT :count)
    WHERE position < :position
      AND (position <= :position - :maxEntries OR total <= :total - :maxBytes OR at < :before))`
}
