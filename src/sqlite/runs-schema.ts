/**
 * The tables of a store for runs and the statements on them.
 *
 * A run keeps its number when it is deleted and another one of its id begins, so forks find the entries of their
 * source by it. Each change of a run is a row of `changes`, whose newest rows are kept: whoever watches reads what
 * came after the last one that it has seen, and so pays for what has changed and not for what it watches.
 */
import { countTables } from './connection.js'

export interface RunNames {
  readonly runs: string
  readonly entries: string
  readonly producers: string
  readonly changes: string
}

/** @param table checked by the options. */
export function runNamesOf(table: string): RunNames {
  return {
    runs: `"${table}"`,
    entries: `"${table}_entries"`,
    producers: `"${table}_producers"`,
    changes: `"${table}_changes"`,
  }
}

export function countRunTables({ runs, entries, producers, changes }: RunNames): string {
  return countTables([runs, entries, producers, changes])
}

/** Creates the tables if they are missing, in one transaction, and leaves what there is. */
export function createRunTables({ runs, entries, producers, changes }: RunNames): string {
  return `BEGIN IMMEDIATE;
-- "dropped" is the position before the first entry that is kept of the run's own, "length" that of all of them in
-- characters. Times are milliseconds since the epoch.
CREATE TABLE IF NOT EXISTS ${runs} (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  generation TEXT NOT NULL,
  meta TEXT NOT NULL,
  ending TEXT NOT NULL DEFAULT '',
  ended_at INTEGER,
  ended_by TEXT,
  is_deleted INTEGER NOT NULL DEFAULT 0,
  source INTEGER,
  forked_at INTEGER NOT NULL,
  dropped INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  length INTEGER NOT NULL DEFAULT 0,
  max_length REAL,
  last_order TEXT,
  created_at INTEGER NOT NULL,
  touched_at INTEGER NOT NULL,
  lease_from INTEGER NOT NULL,
  lease_ms REAL,
  lease_ending TEXT,
  ttl REAL,
  expires_at REAL,
  remember REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS ${named(runs, '_source')} ON ${runs} (source) WHERE source IS NOT NULL;
CREATE TABLE IF NOT EXISTS ${entries} (
  run INTEGER NOT NULL,
  position INTEGER NOT NULL,
  length INTEGER NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (run, position)
);
CREATE TABLE IF NOT EXISTS ${producers} (
  run INTEGER NOT NULL,
  id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (run, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ${changes} (
  change INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL
);
COMMIT;`
}

export const findRun = ({ runs }: RunNames) => `SELECT * FROM ${runs} WHERE id = ?`
export const findByNumber = ({ runs }: RunNames) => `SELECT * FROM ${runs} WHERE number = ?`
export const findForks = ({ runs }: RunNames) => `SELECT * FROM ${runs} WHERE source = ?`

export const insertRun = ({ runs }: RunNames) =>
  `INSERT INTO ${runs} (id, generation, meta, source, forked_at, dropped, tail, max_length,
    created_at, touched_at, lease_from, lease_ms, lease_ending, ttl, expires_at, remember)
  VALUES (:id, :generation, :meta, :source, :forked_at, :forked_at, :forked_at, :max_length,
    :now, :now, :now, :lease_ms, :lease_ending, :ttl, :expires_at, :remember)
  RETURNING *`

/** What changes in a run. */
export const updateRun = ({ runs }: RunNames) =>
  `UPDATE ${runs} SET ending = :ending, ended_at = :ended_at, ended_by = :ended_by, is_deleted = :is_deleted,
    dropped = :dropped, tail = :tail, length = :length, last_order = :last_order, touched_at = :touched_at,
    lease_from = :lease_from
  WHERE number = :number`

export const touchRun = ({ runs }: RunNames) =>
  `UPDATE ${runs} SET touched_at = max(touched_at, ?) WHERE number = ?`

export const deleteRun = ({ runs }: RunNames) => `DELETE FROM ${runs} WHERE number = ?`
export const deleteEntries = ({ entries }: RunNames) =>
  `DELETE FROM ${entries} WHERE run = ? AND position <= ?`
export const deleteProducers = ({ producers }: RunNames) => `DELETE FROM ${producers} WHERE run = ?`

export const insertEntry = ({ entries }: RunNames) =>
  `INSERT INTO ${entries} (run, position, length, text) VALUES (?, ?, ?, ?)`
export const readEntries = ({ entries }: RunNames) =>
  `SELECT text FROM ${entries} WHERE run = ? AND position > ? AND position <= ? ORDER BY position`
/** The lengths only, which SQLite reads without the texts. */
export const readLengths = ({ entries }: RunNames) =>
  `SELECT length FROM ${entries} WHERE run = ? AND position > ? ORDER BY position LIMIT ?`

export const findProducer = ({ producers }: RunNames) =>
  `SELECT epoch, seq FROM ${producers} WHERE run = ? AND id = ?`
export const putProducer = ({ producers }: RunNames) =>
  `INSERT INTO ${producers} (run, id, epoch, seq) VALUES (?, ?, ?, ?)
  ON CONFLICT (run, id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq`

export const insertChange = ({ changes }: RunNames) => `INSERT INTO ${changes} (id) VALUES (?)`
export const readChanges = ({ changes }: RunNames) =>
  `SELECT change, id FROM ${changes} WHERE change >= ? ORDER BY change LIMIT ?`
export const findLastChange = ({ changes }: RunNames) =>
  `SELECT max(change) AS change FROM ${changes}`
export const deleteChanges = ({ changes }: RunNames) =>
  `DELETE FROM ${changes} WHERE change <= (SELECT max(change) FROM ${changes}) - ?`

/** Runs that are deleted or whose time is over, by their numbers. */
export const findOver = ({ runs }: RunNames) =>
  `SELECT * FROM ${runs} WHERE number > ? AND (is_deleted = 1
    OR min(coalesce(touched_at + ttl, 9e18), coalesce(expires_at, 9e18)) <= ?)
  ORDER BY number LIMIT ?`

function named(quoted: string, suffix: string): string {
  return quoted.replace(/"$/, `${suffix}"`)
}
