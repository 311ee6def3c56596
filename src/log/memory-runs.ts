/** Runs in the memory of this process: the default, with nothing to set up. */
import { newGeneration } from '../lib/random.js'
import { isAfter, refusalOf } from './producers.js'
import type {
  RunAddition,
  RunAppended,
  RunCreated,
  RunCreation,
  RunLimits,
  RunNews,
  RunPage,
  RunProducer,
  RunRecord,
  RunStore,
} from './run-store.js'
import { type RunListener, Watcher } from './watcher.js'

/** How often expired runs are removed, in milliseconds. An expired run is never shown, removed or not. */
const SWEEP_MS = 30_000

/** A store that keeps runs in this process, until they expire or it ends. */
export function memoryRuns(): RunStore {
  return new MemoryRuns()
}

class MemoryRuns implements RunStore {
  readonly linger = 0
  readonly #runs = new Map<string, Run>()
  readonly #watchers = new Map<string, Set<Watcher>>()
  #sweeper: NodeJS.Timeout | undefined

  async create(id: string, creation: RunCreation): Promise<RunCreated> {
    const existing = this.#find(id)
    if (existing !== undefined) return { outcome: 'exists', run: existing.record() }
    const { fork } = creation
    const source = fork && this.#find(fork.from)
    if (fork !== undefined) {
      if (source === undefined || source.status === 'expired') return { outcome: 'no source' }
      if (source.status === 'deleted') return { outcome: 'source deleted' }
      if (fork.at > source.tail || fork.at < source.start) return { outcome: 'no position' }
    }
    const run = new Run(creation, source)
    this.#runs.set(id, run)
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
    return { outcome: 'created', run: run.record() }
  }

  async append(id: string, addition: RunAddition): Promise<RunAppended> {
    const run = this.#find(id)
    const isWanted = addition.generation === undefined || addition.generation === run?.generation
    if (run === undefined || !run.isHere || !isWanted) {
      return { outcome: 'unknown', run: run?.record() }
    }
    const { tail } = run
    const outcome = run.append(addition)
    if (outcome === 'appended') {
      this.#tell(id, { run: run.record(), after: tail, entries: addition.entries })
    }
    return { outcome, run: run.record(), producer: run.producerOf(addition.producer) }
  }

  async read(id: string, after: number, limits: RunLimits): Promise<RunPage | undefined> {
    const run = this.#find(id)
    if (run === undefined) return undefined
    const from = Math.max(after, run.start)
    if (!run.isHere) return { run: run.record(), after: from, entries: [] }
    run.touch()
    return { run: run.record(), after: from, entries: run.read(from, limits) }
  }

  async get(id: string): Promise<RunRecord | undefined> {
    return this.#find(id)?.record()
  }

  async renew(id: string): Promise<RunRecord | undefined> {
    const run = this.#find(id)
    run?.renew()
    return run?.record()
  }

  async delete(id: string): Promise<RunRecord | undefined> {
    const run = this.#find(id)
    if (run === undefined) return undefined
    const record = run.record()
    if (run.status !== 'deleted') {
      run.delete()
      if (!run.hasForks) this.#runs.delete(id)
      this.#tell(id, undefined)
    }
    return record
  }

  watch(id: string, listener: RunListener): () => void {
    const watcher = new Watcher(listener)
    const watchers = this.#watchers.get(id) ?? new Set()
    this.#watchers.set(id, watchers.add(watcher))
    watcher.call()
    return () => {
      watcher.stop()
      watchers.delete(watcher)
      if (watchers.size === 0 && this.#watchers.get(id) === watchers) this.#watchers.delete(id)
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper)
    for (const watchers of this.#watchers.values()) for (const watcher of watchers) watcher.stop()
    this.#watchers.clear()
  }

  #find(id: string): Run | undefined {
    const run = this.#runs.get(id)
    if (run === undefined) return undefined
    if (run.isForgotten) {
      this.#runs.delete(id)
      return undefined
    }
    if (run.isLeaseOver) {
      run.end(run.lease?.ending ?? '')
      this.#tell(id, { run: run.record(), after: run.tail, entries: [] })
    }
    return run
  }

  #tell(id: string, news: RunNews | undefined): void {
    for (const watcher of this.#watchers.get(id) ?? []) watcher.call(news)
  }

  #sweep(): void {
    for (const [id, run] of this.#runs) {
      if (run.isForgotten) this.#runs.delete(id)
      else run.free()
    }
    if (this.#runs.size > 0) return
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
  }
}

class Run {
  readonly generation: string
  readonly lease: RunCreation['lease']
  readonly #creation: RunCreation
  readonly #createdAt = Date.now()
  /** The run that it begins with, up to its first own position. */
  readonly #source: Run | undefined
  readonly #forkedAt: number
  /** The forks that need its entries. */
  readonly #forks = new Set<Run>()
  /** Its own entries; the first one's position is `#dropped + 1`. */
  #entries: string[] = []
  #dropped: number
  #length = 0
  #touchedAt = Date.now()
  #leaseFrom = Date.now()
  #ending = ''
  #endedAt: number | undefined
  #isDeleted = false
  readonly #producers = new Map<string, { epoch: number; seq: number }>()
  /** The append that ended it. */
  #endedBy: RunProducer | undefined
  #order: string | undefined

  constructor(creation: RunCreation, source: Run | undefined) {
    this.#creation = { ...creation, entries: undefined }
    this.#source = source
    if (source !== undefined) source.#forks.add(this)
    this.generation = source?.generation ?? creation.generation ?? newGeneration()
    this.#forkedAt = creation.fork?.at ?? 0
    this.#dropped = this.#forkedAt
    this.lease = creation.lease
    this.#add(creation.entries ?? [])
    if (creation.ending !== undefined) this.end(creation.ending)
  }

  get tail(): number {
    return this.#dropped + this.#entries.length
  }

  get start(): number {
    if (this.#dropped > this.#forkedAt || this.#source === undefined) return this.#dropped
    return Math.min(this.#source.start, this.#forkedAt)
  }

  get hasForks(): boolean {
    for (const fork of this.#forks) {
      if (!fork.isHere && !fork.hasForks) this.#forks.delete(fork)
    }
    return this.#forks.size > 0
  }

  get status(): RunRecord['status'] {
    if (this.#isDeleted) return 'deleted'
    // Its forks keep the entries, so it counts as deleted.
    if (this.#isOver) return this.hasForks ? 'deleted' : 'expired'
    return this.#endedAt === undefined ? 'open' : 'ended'
  }

  /** Neither deleted nor expired. */
  get isHere(): boolean {
    return !this.#isDeleted && !this.#isOver
  }

  /** Nothing needs it any more, and nobody is to be told of it. */
  get isForgotten(): boolean {
    if (this.isHere || this.hasForks) return false
    return this.#isDeleted || Date.now() >= this.#expiry + (this.#creation.remember ?? 0)
  }

  get isLeaseOver(): boolean {
    const left = this.#leaseLeft
    return left !== undefined && left <= 0
  }

  record(): RunRecord {
    const { status } = this
    return {
      generation: this.generation,
      meta: this.#creation.meta,
      status,
      ending: this.#ending,
      start: this.start,
      tail: this.tail,
      createdAt: this.#createdAt,
      endedAt: this.#endedAt,
      ttl: this.#creation.ttl,
      expiresAt: this.#creation.expiresAt,
      leaseLeft: this.#leaseLeft,
    }
  }

  producerOf(given: RunProducer | undefined): { epoch: number; seq: number } | undefined {
    const known = given && this.#producers.get(given.id)
    return known && { ...known }
  }

  append({ entries, ending, producer, order }: RunAddition): RunAppended['outcome'] {
    const known = producer && this.#producers.get(producer.id)
    if (this.#endedAt !== undefined) {
      return producer && isSame(producer, this.#endedBy) ? 'duplicate' : 'ended'
    }
    if (producer !== undefined) {
      const refusal = refusalOf(producer, known)
      if (refusal !== undefined) return refusal
    }
    if (order !== undefined) {
      if (this.#order !== undefined && !isAfter(order, this.#order)) return 'wrong order'
      this.#order = order
    }
    if (producer !== undefined) {
      this.#producers.set(producer.id, { epoch: producer.epoch, seq: producer.seq })
    }
    this.#add(entries)
    this.renew()
    if (ending !== undefined) {
      this.end(ending)
      this.#endedBy = producer
    }
    return 'appended'
  }

  read(after: number, { entries, length }: RunLimits): string[] {
    const page: string[] = []
    let total = 0
    for (let at = after; at < this.tail && page.length < entries; at++) {
      const entry = this.#at(at)
      if (page.length > 0 && total + entry.length > length) break
      page.push(entry)
      total += entry.length
    }
    return page
  }

  end(ending: string): void {
    this.#ending = ending
    this.#endedAt = Date.now()
  }

  touch(): void {
    this.#touchedAt = Date.now()
  }

  renew(): void {
    if (!this.isHere) return
    this.#leaseFrom = Date.now()
    this.touch()
  }

  delete(): void {
    this.#isDeleted = true
    this.free()
  }

  /** Drops the entries if nobody can read them any more. */
  free(): void {
    if (this.isHere || this.hasForks || this.#entries.length === 0) return
    this.#dropped = this.tail
    this.#entries = []
  }

  /** The entry after a position, its own or of the run that it was forked from. */
  #at(position: number): string {
    if (this.#source !== undefined && position < this.#forkedAt) return this.#source.#at(position)
    return this.#entries[position - this.#dropped] as string
  }

  #add(entries: readonly string[]): void {
    for (const entry of entries) {
      this.#entries.push(entry)
      this.#length += entry.length
    }
    const { maxLength = Number.POSITIVE_INFINITY } = this.#creation
    if (this.#length <= maxLength) return
    let count = 0
    while (this.#length > maxLength && count < this.#entries.length - 1) {
      this.#length -= (this.#entries[count] as string).length
      count += 1
    }
    // All at once, because removing them one by one would move the rest each time.
    this.#entries.splice(0, count)
    this.#dropped += count
  }

  get #expiry(): number {
    const { ttl = Number.POSITIVE_INFINITY, expiresAt = Number.POSITIVE_INFINITY } = this.#creation
    return Math.min(this.#touchedAt + ttl, expiresAt)
  }

  get #isOver(): boolean {
    return Date.now() >= this.#expiry
  }

  get #leaseLeft(): number | undefined {
    if (this.lease === undefined || this.#endedAt !== undefined || !this.isHere) return undefined
    return this.#leaseFrom + this.lease.ms - Date.now()
  }
}

function isSame(a: RunProducer, b: RunProducer | undefined): boolean {
  return a.id === b?.id && a.epoch === b.epoch && a.seq === b.seq
}
