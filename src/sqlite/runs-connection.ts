/** An open file, with the statements that a store for runs runs on it. */
import { unescapeText } from '../log/table.js'
import { SqliteConnection } from './connection.js'
import {
  countRunTables,
  createRunTables,
  deleteChanges,
  deleteEntries,
  deleteProducers,
  deleteRun,
  findByNumber,
  findForks,
  findLastChange,
  findOver,
  findProducer,
  findRun,
  insertChange,
  insertEntry,
  insertRun,
  putProducer,
  type RunNames,
  readChanges,
  readEntries,
  readLengths,
  touchRun,
  updateRun,
} from './runs-schema.js'
import { stored } from './text.js'

/** How many rows are read at once. */
export const CHUNK_ROWS = 1000

/** A row of the table of runs. Its texts are escaped: see `log/table.ts`. */
export interface RunRow {
  readonly number: number
  readonly id: string
  readonly generation: string
  readonly meta: string
  ending: string
  ended_at: number | null
  /** The producer's append that ended it, as JSON. */
  ended_by: string | null
  is_deleted: number
  readonly source: number | null
  readonly forked_at: number
  dropped: number
  tail: number
  length: number
  readonly max_length: number | null
  last_order: string | null
  readonly created_at: number
  touched_at: number
  lease_from: number
  readonly lease_ms: number | null
  readonly lease_ending: string | null
  readonly ttl: number | null
  readonly expires_at: number | null
  readonly remember: number
}

export type NewRun = Pick<
  RunRow,
  | 'id'
  | 'generation'
  | 'meta'
  | 'source'
  | 'forked_at'
  | 'max_length'
  | 'lease_ms'
  | 'lease_ending'
  | 'ttl'
  | 'expires_at'
  | 'remember'
> & { readonly now: number }

export interface Change {
  readonly change: number
  readonly id: string
}

export class RunsConnection extends SqliteConnection<RunNames> {
  protected override readonly creation = createRunTables

  find(id: string): RunRow | undefined {
    return this.prepared(findRun).get(id) as unknown as RunRow | undefined
  }

  byNumber(number: number): RunRow | undefined {
    return this.prepared(findByNumber).get(number) as unknown as RunRow | undefined
  }

  forksOf({ number }: RunRow): RunRow[] {
    return this.prepared(findForks).all(number) as unknown as RunRow[]
  }

  /** Deleted runs and those whose time is over, from the one after this number on. */
  over(after: number, now: number, count: number): RunRow[] {
    return this.prepared(findOver).all(after, now, count) as unknown as RunRow[]
  }

  insert(run: NewRun): RunRow {
    return this.prepared(insertRun).get({ ...run }) as unknown as RunRow
  }

  update(run: RunRow): void {
    const { ending, ended_at, ended_by, is_deleted, dropped, tail, length, last_order } = run
    const { touched_at, lease_from, number } = run
    const state = { ending, ended_at, ended_by, is_deleted, dropped, tail, length, last_order }
    this.prepared(updateRun).run({ ...state, touched_at, lease_from, number })
  }

  touch(number: number, now: number): void {
    this.prepared(touchRun).run(now, number)
  }

  /** Removes all that there is of a run. */
  remove({ number }: RunRow): void {
    this.deleteEntries(number, Number.MAX_SAFE_INTEGER)
    this.prepared(deleteProducers).run(number)
    this.prepared(deleteRun).run(number)
  }

  deleteEntries(run: number, upTo: number): void {
    this.prepared(deleteEntries).run(run, upTo)
  }

  addEntry(run: number, position: number, text: string): void {
    this.prepared(insertEntry).run(run, position, text.length, stored(text))
  }

  /** The lengths of a run's own entries after a position, in characters, a thousand at most. */
  lengths(run: number, after: number): number[] {
    const rows = this.prepared(readLengths).all(run, after, CHUNK_ROWS)
    return rows.map(({ length }) => length as number)
  }

  /** The run's own entries between two positions, the first one exclusive. */
  entries(run: number, after: number, upTo: number): string[] {
    const rows = this.prepared(readEntries).all(run, after, upTo)
    return rows.map(({ text }) => unescapeText(text as string))
  }

  producer(run: number, id: string): { epoch: number; seq: number } | undefined {
    const row = this.prepared(findProducer).get(run, stored(id))
    return row && { epoch: row.epoch as number, seq: row.seq as number }
  }

  putProducer(run: number, id: string, epoch: number, seq: number): void {
    this.prepared(putProducer).run(run, stored(id), epoch, seq)
  }

  /** Tells those who watch the run that it has changed. */
  announce({ id }: RunRow): void {
    this.prepared(insertChange).run(id)
  }

  lastChange(): number {
    return (this.prepared(findLastChange).get()?.change ?? 0) as number
  }

  /** From this change on, a thousand at most. */
  changes(from: number): Change[] {
    return this.prepared(readChanges).all(from, CHUNK_ROWS) as unknown as Change[]
  }

  /** Keeps this many of the newest changes. */
  forgetChanges(kept: number): void {
    this.prepared(deleteChanges).run(kept)
  }

  protected override hasTables(): boolean {
    return this.prepared(countRunTables).get()?.count === 4
  }
}
