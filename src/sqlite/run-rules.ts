/**
 * What may happen to a run, and when: the rules of the memory store (log/memory-runs.ts) on rows. Each call is one
 * transaction of its caller's.
 */
import { newGeneration } from '../lib/random.js'
import { isAfter, refusalOf } from '../log/producers.js'
import type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunPage,
  RunProducer,
  RunRecord,
} from '../log/run-store.js'
import { unescapeText } from '../log/table.js'
import type { RunRow, RunsConnection } from './runs-connection.js'
import { stored } from './text.js'

/** The runs of a file, as they are at one moment. */
export class RunRules {
  readonly #file: RunsConnection
  readonly #now = Date.now()

  constructor(file: RunsConnection) {
    this.#file = file
  }

  create(id: string, creation: RunCreation): RunCreated {
    const existing = this.find(id)
    if (existing !== undefined) return { outcome: 'exists', run: this.record(existing) }
    const { fork, lease, entries = [], ending } = creation
    const source = fork && this.find(fork.from)
    if (fork !== undefined) {
      const status = source && this.#statusOf(source)
      if (source === undefined || status === 'expired') return { outcome: 'no source' }
      if (status === 'deleted') return { outcome: 'source deleted' }
      if (fork.at > source.tail || fork.at < this.#startOf(source))
        return { outcome: 'no position' }
    }
    const run = this.#file.insert({
      id: stored(id),
      generation: source?.generation ?? creation.generation ?? newGeneration(),
      meta: stored(creation.meta),
      source: source?.number ?? null,
      forked_at: fork?.at ?? 0,
      max_length: finite(creation.maxLength),
      lease_ms: finite(lease?.ms),
      lease_ending: lease === undefined ? null : stored(lease.ending),
      ttl: finite(creation.ttl),
      expires_at: finite(creation.expiresAt),
      remember: Math.min(creation.remember ?? 0, Number.MAX_SAFE_INTEGER),
      now: this.#now,
    })
    this.#add(run, entries)
    if (ending !== undefined) this.#end(run, stored(ending))
    this.#file.update(run)
    return { outcome: 'created', run: this.record(run) }
  }

  append(id: string, addition: RunAddition): RunAppended {
    const run = this.find(id)
    const isWanted = addition.generation === undefined || addition.generation === run?.generation
    if (run === undefined || !this.#isHere(run) || !isWanted) {
      return { outcome: 'unknown', run: run && this.record(run) }
    }
    const outcome = this.#append(run, addition)
    if (outcome === 'appended') {
      this.#file.update(run)
      this.#file.announce(run)
    }
    const { producer } = addition
    const known = producer && this.#file.producer(run.number, producer.id)
    return { outcome, run: this.record(run), producer: known }
  }

  /** Undefined if only {@link find} can tell, which writes. */
  read(id: string, after: number, limits: RunLimits): RunPage | undefined | 'to settle' {
    const run = this.#file.find(stored(id))
    if (run === undefined || this.#isForgotten(run)) return undefined
    if (this.#isLeaseOver(run)) return 'to settle'
    const from = Math.max(after, this.#startOf(run))
    const entries: string[] = []
    if (this.#isHere(run)) this.#collect(run, from, run.tail, limits, entries, { length: 0 })
    return { run: this.record(run), after: from, entries }
  }

  renew(id: string): RunRecord | undefined {
    const run = this.find(id)
    if (run === undefined) return undefined
    if (this.#isHere(run)) {
      this.#renew(run)
      this.#file.update(run)
    }
    return this.record(run)
  }

  /** Keeps a run that was read from expiring. */
  touch(id: string): void {
    const run = this.#file.find(stored(id))
    if (run !== undefined && this.#isHere(run)) this.#file.touch(run.number, this.#now)
  }

  delete(id: string): RunRecord | undefined {
    const run = this.find(id)
    if (run === undefined) return undefined
    const record = this.record(run)
    if (record.status === 'deleted') return record
    if (this.#hasForks(run)) this.#file.update(Object.assign(run, { is_deleted: 1 }))
    else this.#file.remove(run)
    this.#file.announce(run)
    return record
  }

  /** The run as it is now: ended if its lease is over, and gone if nothing needs it. */
  find(id: string): RunRow | undefined {
    const run = this.#file.find(stored(id))
    if (run === undefined) return undefined
    if (this.#isForgotten(run)) {
      this.#file.remove(run)
      return undefined
    }
    if (this.#isLeaseOver(run)) {
      this.#end(run, run.lease_ending ?? '')
      this.#file.update(run)
      this.#file.announce(run)
    }
    return run
  }

  /** Removes what nobody can read any more; returns the number to go on after, if there may be more. */
  sweep(after: number, count: number): number | undefined {
    const runs = this.#file.over(after, this.#now, count)
    for (const run of runs) {
      if (this.#isForgotten(run)) this.#file.remove(run)
      else if (!this.#hasForks(run) && run.dropped < run.tail) {
        this.#file.deleteEntries(run.number, run.tail)
        this.#file.update(Object.assign(run, { dropped: run.tail, length: 0 }))
      }
    }
    return runs.length < count ? undefined : runs.at(-1)?.number
  }

  record(run: RunRow): RunRecord {
    return {
      generation: run.generation,
      meta: unescapeText(run.meta),
      status: this.#statusOf(run),
      ending: unescapeText(run.ending),
      start: this.#startOf(run),
      tail: run.tail,
      createdAt: run.created_at,
      endedAt: run.ended_at ?? undefined,
      ttl: run.ttl ?? undefined,
      expiresAt: run.expires_at ?? undefined,
      leaseLeft: this.#leaseLeftOf(run),
    }
  }

  #append(run: RunRow, { entries, ending, producer, order }: RunAddition): RunAppended['outcome'] {
    if (run.ended_at !== null) {
      const isSame = producer !== undefined && run.ended_by === appendOf(producer)
      return isSame ? 'duplicate' : 'ended'
    }
    if (producer !== undefined) {
      const refusal = refusalOf(producer, this.#file.producer(run.number, producer.id))
      if (refusal !== undefined) return refusal
    }
    if (order !== undefined) {
      const last = run.last_order
      if (last !== null && !isAfter(order, unescapeText(last))) return 'wrong order'
      run.last_order = stored(order)
    }
    if (producer !== undefined) {
      this.#file.putProducer(run.number, producer.id, producer.epoch, producer.seq)
    }
    this.#add(run, entries)
    this.#renew(run)
    if (ending !== undefined) {
      this.#end(run, stored(ending))
      run.ended_by = producer === undefined ? null : appendOf(producer)
    }
    return 'appended'
  }

  #add(run: RunRow, entries: readonly string[]): void {
    for (const entry of entries) {
      run.tail += 1
      run.length += entry.length
      this.#file.addEntry(run.number, run.tail, entry)
    }
    if (run.max_length === null || run.length <= run.max_length) return
    const { dropped } = run
    while (run.length > run.max_length && run.dropped < run.tail - 1) {
      for (const length of this.#file.lengths(run.number, run.dropped)) {
        if (run.length <= run.max_length || run.dropped === run.tail - 1) break
        run.length -= length
        run.dropped += 1
      }
    }
    if (run.dropped > dropped) this.#file.deleteEntries(run.number, run.dropped)
  }

  #end(run: RunRow, ending: string): void {
    run.ending = ending
    run.ended_at = this.#now
  }

  #renew(run: RunRow): void {
    run.lease_from = this.#now
    run.touched_at = Math.max(run.touched_at, this.#now)
  }

  /** Collects entries between two positions, those of its source too. Returns whether the limits allow more. */
  #collect(
    run: RunRow,
    after: number,
    upTo: number,
    limits: RunLimits,
    page: string[],
    total: { length: number },
  ): boolean {
    if (run.source !== null && after < run.forked_at) {
      const source = this.#file.byNumber(run.source)
      const end = Math.min(upTo, run.forked_at)
      if (source && !this.#collect(source, after, end, limits, page, total)) return false
    }
    let from = Math.max(after, run.forked_at)
    while (from < upTo) {
      let to = from
      let isFull = false
      for (const length of this.#file.lengths(run.number, from)) {
        if (to === upTo) break
        const count = page.length + to - from
        isFull = count >= limits.entries || (count > 0 && total.length + length > limits.length)
        if (isFull) break
        total.length += length
        to += 1
      }
      for (const text of this.#file.entries(run.number, from, to)) page.push(text)
      if (isFull || to === from) return false
      from = to
    }
    return true
  }

  #startOf(run: RunRow): number {
    if (run.dropped > run.forked_at || run.source === null) return run.dropped
    const source = this.#file.byNumber(run.source)
    return source === undefined ? run.dropped : Math.min(this.#startOf(source), run.forked_at)
  }

  #hasForks(run: RunRow): boolean {
    return this.#file.forksOf(run).some(fork => this.#isHere(fork) || this.#hasForks(fork))
  }

  #statusOf(run: RunRow): RunRecord['status'] {
    if (run.is_deleted === 1) return 'deleted'
    // Its forks keep the entries, so it counts as deleted.
    if (this.#isOver(run)) return this.#hasForks(run) ? 'deleted' : 'expired'
    return run.ended_at === null ? 'open' : 'ended'
  }

  /** Neither deleted nor expired. */
  #isHere(run: RunRow): boolean {
    return run.is_deleted === 0 && !this.#isOver(run)
  }

  /** Nothing needs it any more, and nobody is to be told of it. */
  #isForgotten(run: RunRow): boolean {
    if (this.#isHere(run) || this.#hasForks(run)) return false
    return run.is_deleted === 1 || this.#now >= expiryOf(run) + run.remember
  }

  #isOver(run: RunRow): boolean {
    return this.#now >= expiryOf(run)
  }

  #isLeaseOver(run: RunRow): boolean {
    const left = this.#leaseLeftOf(run)
    return left !== undefined && left <= 0
  }

  #leaseLeftOf(run: RunRow): number | undefined {
    if (run.lease_ms === null || run.ended_at !== null || !this.#isHere(run)) return undefined
    return run.lease_from + run.lease_ms - this.#now
  }
}

function expiryOf({ touched_at, ttl, expires_at }: RunRow): number {
  const end = ttl === null ? Number.POSITIVE_INFINITY : touched_at + ttl
  return Math.min(end, expires_at ?? Number.POSITIVE_INFINITY)
}

function appendOf({ id, epoch, seq }: RunProducer): string {
  return JSON.stringify([id, epoch, seq])
}

/** SQLite has no Infinity; without a value there is no limit either. */
function finite(value: number | undefined): number | null {
  return value === undefined || !Number.isFinite(value) ? null : value
}
