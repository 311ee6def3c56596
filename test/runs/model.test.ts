/**
 * Whatever the order of appends, lost replies, news that come late or never, readers that leave and return, on
 * either process: each reader gets each event once and in order, and the end.
 */
import fc from 'fast-check'
import { memoryRuns, type Run, type RunAppendable, type RunStore, Runs } from 'koa-sse-pool/runs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { testPool } from '../helpers/server.js'

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

/** A store as one process sees it, over a network that the test disturbs. */
class ShakyStore implements RunStore {
  readonly linger = 0
  losesReplies = 0
  dropsNews = 0
  failsReads = 0
  readonly #store: RunStore
  readonly #watchers = new Set<(news: undefined) => void>()

  constructor(store: RunStore) {
    this.#store = store
  }

  create: RunStore['create'] = (...args) => this.#store.create(...args)
  get: RunStore['get'] = (...args) => this.#store.get(...args)
  renew: RunStore['renew'] = (...args) => this.#store.renew(...args)
  delete: RunStore['delete'] = (...args) => this.#store.delete(...args)

  append: RunStore['append'] = async (...args) => {
    const appended = await this.#store.append(...args)
    if (this.losesReplies > 0) {
      this.losesReplies -= 1
      throw new Error('The reply was lost')
    }
    return appended
  }

  read: RunStore['read'] = async (...args) => {
    await turn()
    if (this.failsReads > 0) {
      this.failsReads -= 1
      throw new Error('Out of reach')
    }
    return this.#store.read(...args)
  }

  watch: RunStore['watch'] = (id, listener) => {
    this.#watchers.add(listener)
    const unwatch = this.#store.watch(id, news => {
      if (news !== undefined && this.dropsNews > 0) this.dropsNews -= 1
      else listener(news)
    })
    return () => {
      this.#watchers.delete(listener)
      unwatch()
    }
  }

  /** The connection that brings the news is back. */
  reconnect(): void {
    this.dropsNews = 0
    for (const listener of this.#watchers) listener(undefined)
  }

  async close(): Promise<void> {}
}

/** One that reads a run, leaves in the middle, and comes back with the id of its last event. */
class Reader {
  readonly got: string[] = []
  #offset: string | undefined
  #controller = new AbortController()
  #reading: Promise<void> = Promise.resolve()

  read(runs: Runs): void {
    this.#controller = new AbortController()
    const { signal } = this.#controller
    this.#reading = (async () => {
      for await (const { id, event, data } of runs.read('one', { offset: this.#offset, signal })) {
        this.got.push(event === 'message' ? data : event)
        this.#offset = id
      }
    })()
  }

  async leave(): Promise<void> {
    this.#controller.abort()
    await this.#reading
  }

  get end(): Promise<void> {
    return this.#reading
  }
}

type Step =
  | { readonly do: 'append'; readonly count: number }
  | { readonly do: 'turn' }
  | { readonly do: 'return'; readonly reader: number; readonly process: number }
  | { readonly do: 'lose' | 'drop' | 'fail'; readonly process: number; readonly count: number }
  | { readonly do: 'reconnect'; readonly process: number }

const process = fc.nat(1)
const count = fc.integer({ min: 1, max: 3 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('append' as const), count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ do: fc.constant('turn' as const) }),
  fc.record({ do: fc.constant('return' as const), reader: fc.nat(2), process }),
  fc.record({ do: fc.constantFrom('lose', 'drop', 'fail'), process, count }),
  fc.record({ do: fc.constant('reconnect' as const), process }),
)

test('every reader gets every event once and in order', { timeout: 120_000 }, async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }).setTimerTickMode('nextTimerAsync')
  onTestFinished(() => {
    vi.useRealTimers()
  })
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async steps => {
    const store = memoryRuns()
    const pool = testPool()
    pool.on('error', () => {})
    const stores = [new ShakyStore(store), new ShakyStore(store)] as const
    const processes = stores.map(one => new Runs({ pool, store: one })) as [Runs, Runs]
    const begun = deferred<Run<RunAppendable>>()
    const end = deferred()
    await processes[0].start('one', async run => {
      begun.resolve(run)
      await end.promise
    })
    const run = await begun.promise
    const readers = [new Reader(), new Reader(), new Reader()]
    for (const reader of readers) reader.read(processes[1])
    let sent = 0
    for (const each of steps) {
      if (each.do === 'append') {
        for (let i = 0; i < each.count; i++) await run.append(`${sent++}`)
      } else if (each.do === 'turn') {
        await turn()
      } else if (each.do === 'return') {
        const reader = readers[each.reader] as Reader
        await reader.leave()
        reader.read(processes[each.process] as Runs)
      } else {
        const shaky = stores[each.process] as ShakyStore
        if (each.do === 'lose') shaky.losesReplies = each.count
        else if (each.do === 'drop') shaky.dropsNews = each.count
        else if (each.do === 'fail') shaky.failsReads = each.count
        else shaky.reconnect()
      }
    }
    end.resolve()
    for (const shaky of stores) shaky.reconnect()
    await Promise.all(readers.map(reader => reader.end))
    const all = Array.from({ length: sent }, (_, i) => `${i}`)
    for (const { got } of readers) expect(got).toEqual(all)
    await store.close()
  })
  await fc.assert(property, { numRuns: Number(globalThis.process.env.RUNS_RUNS ?? 300) })
})
