/** What the tests of a store of runs bring, and what they share. */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type {
  RunAddition,
  RunAppended,
  RunCreation,
  RunNews,
  RunRecord,
  RunStore,
} from '../log/run-store.js'
import { Checks, WAIT_TIMEOUT_MS } from './checks.js'

/** A fresh, empty engine for one test, and the ways to make it fail. */
export interface SharedRuns {
  /**
   * Returns the store as one more process sees it. Called once for each process of a test; the suite closes
   * what it returns.
   */
  open(): RunStore
  /** Frees what `create` allocated. Called after each test, once all stores are closed. */
  close(): Promise<void> | void
  /** For the fault `cut`: cuts the connections of all processes, once. They may reconnect at once. */
  cut?(): Promise<void> | void
  /** For the fault `stop`: stops the engine, so that no process can reach it. */
  stop?(): Promise<void> | void
  /** For the fault `stop`: starts the engine again, with its data. */
  start?(): Promise<void> | void
}

/** A fault that the suite can cause, named after the method of {@link SharedRuns} that causes it. */
export type RunFault = 'cut' | 'stop'

/** Tests by name; `open` starts one more process. */
export type RunPlan = Record<
  string,
  (store: RunStore, open: () => RunStore, shared: SharedRuns) => Promise<void>
>

/** More than any test stores. */
export const EVERYTHING = { entries: 100_000, length: 100_000_000 }

/** Resolves to the first result that is not undefined: for conditions that no event announces. */
export async function until<T>(what: string, check: () => Promise<T | undefined>): Promise<T> {
  const end = performance.now() + WAIT_TIMEOUT_MS
  for (;;) {
    const result = await check()
    if (result !== undefined) return result
    assert.ok(performance.now() < end, `Never ${what}`)
    await pause(5)
  }
}

export async function begin(
  store: RunStore,
  id: string,
  creation: Partial<RunCreation> = {},
): Promise<RunRecord> {
  const created = await store.create(id, { meta: '', ...creation })
  assert.equal(created.outcome, 'created')
  return (created as { run: RunRecord }).run
}

/** Appends, and asserts what comes of it. */
export async function expectAppend(
  store: RunStore,
  id: string,
  addition: Partial<RunAddition>,
  outcome: RunAppended['outcome'],
): Promise<RunAppended> {
  const appended = await store.append(id, { entries: [], ...addition })
  assert.equal(appended.outcome, outcome)
  return appended
}

/** All entries after a position. */
export async function entriesOf(
  store: RunStore,
  id: string,
  after = 0,
): Promise<readonly string[]> {
  const page = await store.read(id, after, EVERYTHING)
  assert.ok(page, `there is no run ${id}`)
  return page.entries
}

export async function statusOf(store: RunStore, id: string): Promise<string> {
  return (await store.get(id))?.status ?? 'unknown'
}

export function waitForStatus(store: RunStore, id: string, status: string): Promise<true> {
  return until(`${status}`, async () => (await statusOf(store, id)) === status || undefined)
}

/** A watcher, and all of its calls. */
export interface Watch {
  readonly calls: readonly (RunNews | undefined)[]
  stop(): void
  /** Resolves as soon as the condition holds; it is checked after each call. */
  until(what: string, condition: () => boolean): Promise<void>
}

export function startWatch(store: RunStore, id: string): Watch {
  const calls: (RunNews | undefined)[] = []
  const checks = new Checks()
  let isSynchronous = true
  let isStopped = false
  const stop = store.watch(id, news => {
    assert.ok(!isSynchronous, 'the listener was called synchronously')
    assert.ok(!isStopped, 'the listener was called after it was stopped')
    calls.push(news)
    checks.run()
  })
  isSynchronous = false
  return {
    calls,
    stop() {
      isStopped = true
      stop()
    },
    until: (what, condition) =>
      checks.until(condition, () => `Never ${what}; ${calls.length} calls`),
  }
}

/** A watcher that has had its first call, so that it gets the news of everything that follows. */
export async function startedWatch(store: RunStore, id: string): Promise<Watch> {
  const watch = startWatch(store, id)
  await watch.until('called without news', () => watch.calls.length > 0)
  assert.equal(watch.calls[0], undefined)
  return watch
}

/**
 * Reads a run as readers do: when it is called, from where it is. Resolves to the entries once the run has ended.
 */
export function follow(store: RunStore, id: string): Promise<string[]> {
  const entries: string[] = []
  let isReading = false
  let isBehind = false
  return new Promise((resolve, reject) => {
    const read = async () => {
      isBehind = true
      if (isReading) return
      isReading = true
      try {
        while (isBehind) {
          isBehind = false
          const page = await repeat(() => store.read(id, entries.length, EVERYTHING))
          entries.push(...(page?.entries ?? []))
          if (page?.run.status !== 'ended') continue
          stop()
          resolve(entries)
          return
        }
      } catch (error) {
        reject(error)
      }
      isReading = false
    }
    const stop = store.watch(id, () => void read())
  })
}

/** Repeats an action until the engine has done it. */
export async function repeat<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action()
    } catch (error) {
      const { code } = error as { code?: unknown }
      if (code === undefined) throw error
      assert.match(String(code), /^ERR_SSE_LOG_(DOWN|UNCERTAIN)$/)
      await pause(10)
    }
  }
}

/**
 * Asserts that an action, repeated, keeps the run `kept` from what happens to the run `left` after `ms`.
 */
export async function keeps(
  ms: number,
  start: (round: number) => Promise<[kept: string, left: string]>,
  action: (id: string) => Promise<unknown>,
  hasHappened: (id: string) => Promise<boolean>,
): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const [kept, left] = await start(round)
    let last = performance.now()
    let longest = 0
    const act = async () => {
      await action(kept)
      const now = performance.now()
      longest = Math.max(longest, now - last)
      last = now
    }
    await act()
    while (!(await hasHappened(left))) {
      await pause(ms / 50)
      await act()
    }
    const isKept = !(await hasHappened(kept))
    longest = Math.max(longest, performance.now() - last)
    // If the machine stalled for that long, the kept run may be over too: try again.
    if (longest < ms) {
      assert.ok(isKept, 'it was not kept')
      return
    }
  }
  assert.fail('the machine is too slow for this test')
}
