/** What every store of runs must do, as tests for any test runner. */
import assert from 'node:assert/strict'
import type { RunAddition, RunRecord, RunStore } from '../log/run-store.js'
import { runFaultTests } from './run-faults.js'
import {
  begin,
  EVERYTHING,
  entriesOf,
  expectAppend,
  follow,
  keeps,
  type RunFault,
  type RunPlan,
  type SharedRuns,
  startedWatch,
  startWatch,
  statusOf,
  until,
  waitForStatus,
} from './runs.js'
import { allOfUnicode } from './unicode.js'

/** The options of {@link runStoreSuite}. */
export interface RunStoreSuiteOptions {
  /**
   * The `test` function of your runner. The suite waits up to 25 s for what has to happen, so give tests a
   * timeout of at least 30 s.
   */
  test: (name: string, run: () => Promise<void>) => unknown
  /** Creates a fresh, empty engine. Called at the start of each test. */
  create: () => Promise<SharedRuns> | SharedRuns
  /**
   * The faults to test; default none. What `create` returns must have the methods of the same names, and
   * `start` for `stop`.
   */
  faults?: readonly RunFault[] | undefined
  /**
   * Whether the runs belong to a single process, as those in memory do; default `false`. The tests with several
   * processes are then left out.
   */
  local?: boolean | undefined
}

/**
 * Tests a store for runs: declares the tests that every {@link RunStore} must pass, by calling `test` once for
 * each. It works with any runner whose `test` takes a name and an async function.
 *
 * @example
 * ```js
 * import { test } from 'node:test'
 * import { runStoreSuite } from 'koa-sse-pool/testing'
 *
 * runStoreSuite({
 *   test: (name, run) => test(name, { timeout: 40_000 }, run),
 *   async create() {
 *     const database = await createTestDatabase()
 *     return { open: () => myRuns({ database }), close: () => database.drop() }
 *   },
 * })
 * ```
 */
export function runStoreSuite(options: RunStoreSuiteOptions): void {
  const { test, create, faults = [], local = false } = options
  const run = (plan: RunPlan) => {
    for (const [name, body] of Object.entries(plan)) {
      test(name, async () => {
        const shared = await create()
        const stores: RunStore[] = []
        const open = () => {
          const store = shared.open()
          stores.push(store)
          return store
        }
        try {
          await body(open(), open, shared)
        } finally {
          await Promise.all(stores.map(store => store.close()))
          await shared.close()
        }
      })
    }
  }
  for (const plan of [beginnings, appends, reads, forks, times, watches]) run(plan)
  if (!local) run(manyProcesses)
  for (const fault of faults) run(runFaultTests[fault])
}

const beginnings: RunPlan = {
  'a run begins open and empty, and its record says how': async store => {
    const before = Date.now()
    const run = await begin(store, 'run', { meta: '{"a":"ä"}', ttl: 600_000 })
    const { generation, createdAt, ...rest } = run
    assert.match(generation, /^[0-9a-z]{8}$/)
    // The engine may have a clock of its own, but not one of another day.
    assert.ok(Math.abs(createdAt - before) < 86_400_000)
    assert.deepEqual(rest, {
      meta: '{"a":"ä"}',
      status: 'open',
      ending: '',
      start: 0,
      tail: 0,
      endedAt: undefined,
      ttl: 600_000,
      expiresAt: undefined,
      leaseLeft: undefined,
    })
    assert.deepEqual(await store.get('run'), run)
    assert.deepEqual(await store.renew('run'), run)
    assert.deepEqual(await store.read('run', 0, EVERYTHING), { run, after: 0, entries: [] })
  },

  'a run can begin with entries, and end at once': async store => {
    const run = await begin(store, 'run', { entries: ['a', 'b'], ending: 'done' })
    assert.equal(run.status, 'ended')
    assert.equal(run.ending, 'done')
    assert.equal(run.tail, 2)
    assert.ok((run.endedAt ?? 0) >= run.createdAt)
    assert.deepEqual(await store.get('run'), run)
    assert.deepEqual(await entriesOf(store, 'run'), ['a', 'b'])
  },

  'a run whose ending is empty has ended all the same': async store => {
    await begin(store, 'at once', { ending: '' })
    assert.equal(await statusOf(store, 'at once'), 'ended')
    await begin(store, 'later')
    await expectAppend(store, 'later', { ending: '' }, 'appended')
    assert.equal(await statusOf(store, 'later'), 'ended')
  },

  'a second run of the same id does not begin, and changes nothing': async store => {
    const run = await begin(store, 'run', { meta: 'first', entries: ['a'] })
    const second = await store.create('run', { meta: 'second', entries: ['b'], ending: 'done' })
    assert.deepEqual(second, { outcome: 'exists', run })
    assert.deepEqual(await entriesOf(store, 'run'), ['a'])
  },

  'an unknown run has no record, no entries, and cannot be appended to': async store => {
    assert.equal(await store.get('run'), undefined)
    assert.equal(await store.read('run', 0, EVERYTHING), undefined)
    assert.equal(await store.renew('run'), undefined)
    assert.equal(await store.delete('run'), undefined)
    const { run } = await expectAppend(store, 'run', { entries: ['a'] }, 'unknown')
    assert.equal(run, undefined)
  },

  'a deleted run is forgotten, and the next of its id has another generation': async store => {
    const first = await begin(store, 'run', { entries: ['a'], maxLength: 100 })
    const producer = { id: 'p', epoch: 7, seq: 0 }
    const { run } = await expectAppend(store, 'run', { producer, order: 'z' }, 'appended')
    assert.deepEqual(await store.delete('run'), run)
    assert.equal(await store.get('run'), undefined)
    assert.equal(await store.delete('run'), undefined)
    const second = await begin(store, 'run')
    assert.notEqual(second.generation, first.generation)
    assert.deepEqual(await entriesOf(store, 'run'), [])
    const old = { entries: ['x'], generation: first.generation }
    assert.deepEqual((await expectAppend(store, 'run', old, 'unknown')).run, second)
    await expectAppend(store, 'run', { ...old, generation: second.generation }, 'appended')
    // Neither its producers nor its order are those of the first one.
    const early = { producer: { ...producer, epoch: 0 }, order: 'a' }
    await expectAppend(store, 'run', early, 'appended')
  },

  'ids of any characters are kept apart': async store => {
    const ids = [
      '',
      ' ',
      'a',
      'A',
      'a}b',
      '{a}',
      '}',
      'a:b',
      'a:log',
      'run:a',
      '*',
      '?',
      '[a]',
      '../a',
    ]
    ids.push('\n', '\0', 'a\0', '%', "'", '"', '\\', '\u{1F600}', 'é', 'e\u0301', '__proto__')
    ids.push('constructor', 'x'.repeat(1000))
    for (const [index, id] of ids.entries()) await begin(store, id, { entries: [`${index}`] })
    const watches = await Promise.all(ids.map(id => startedWatch(store, id)))
    for (const [index, id] of ids.entries()) {
      assert.deepEqual(await entriesOf(store, id), [`${index}`], JSON.stringify(id))
      const producer = { id, epoch: 0, seq: 0 }
      await expectAppend(store, id, { entries: [id], producer }, 'appended')
      const watch = watches[index]
      await watch?.until('called', () => watch.calls.length > 1)
      await begin(store, `fork of ${id}`, { fork: { from: id, at: 2 } })
      assert.deepEqual(await entriesOf(store, `fork of ${id}`, 1), [id])
    }
    for (const watch of watches) assert.equal(watch.calls.length, 2)
  },
}

const appends: RunPlan = {
  'entries get consecutive positions, in the order of their appends': async store => {
    await begin(store, 'run', { entries: ['0'] })
    const all = ['0']
    for (let index = 1; index < 50; index += 2) {
      const entries = [`${index}`, `${index + 1}`]
      all.push(...entries)
      const { run } = await expectAppend(store, 'run', { entries }, 'appended')
      assert.equal(run?.tail, all.length)
    }
    assert.deepEqual(await entriesOf(store, 'run'), all)
  },

  'appends that do not wait for each other keep the order of their calls': async store => {
    await begin(store, 'run')
    const all = Array.from({ length: 200 }, (_, seq) => `${seq}`)
    const appended = await Promise.all(
      all.map((entry, seq) =>
        store.append('run', { entries: [entry], producer: { id: 'p', epoch: 0, seq } }),
      ),
    )
    assert.deepEqual(new Set(appended.map(({ outcome }) => outcome)), new Set(['appended']))
    assert.deepEqual(
      appended.map(({ run }) => run?.tail),
      all.map((_, index) => index + 1),
    )
    assert.deepEqual(await entriesOf(store, 'run'), all)
  },

  'an append can end the run, and then there are no more': async store => {
    await begin(store, 'run', { lease: { ms: 600_000, ending: 'lost' } })
    const last = { entries: ['a', 'b'], ending: 'done' }
    const { run } = await expectAppend(store, 'run', last, 'appended')
    assert.equal(run?.status, 'ended')
    assert.equal(run?.ending, 'done')
    assert.equal(run?.tail, 2)
    assert.equal(run?.leaseLeft, undefined)
    assert.equal(typeof run?.endedAt, 'number')
    for (const addition of [{ entries: ['c'] }, last, { ending: 'failed' }]) {
      const refused = await expectAppend(store, 'run', addition, 'ended')
      assert.deepEqual(refused.run, run)
    }
    assert.deepEqual(await entriesOf(store, 'run'), ['a', 'b'])
  },

  'a run can end without entries, and be renewed without an effect on that': async store => {
    await begin(store, 'run', { lease: { ms: 600_000, ending: 'lost' } })
    const { run } = await expectAppend(store, 'run', { ending: 'stopped' }, 'appended')
    assert.deepEqual(await store.renew('run'), run)
    assert.equal(run?.ending, 'stopped')
  },

  'a producer that repeats an append stores it once': async store => {
    await begin(store, 'run')
    for (let seq = 0; seq < 3; seq++) {
      const addition = { entries: [`${seq}`], producer: { id: 'p', epoch: 0, seq } }
      const first = await expectAppend(store, 'run', addition, 'appended')
      assert.deepEqual(first.producer, { epoch: 0, seq })
      const second = await expectAppend(store, 'run', addition, 'duplicate')
      assert.deepEqual(second, { ...first, outcome: 'duplicate' })
    }
    const old = { entries: ['0'], producer: { id: 'p', epoch: 0, seq: 0 } }
    const { producer } = await expectAppend(store, 'run', old, 'duplicate')
    assert.deepEqual(producer, { epoch: 0, seq: 2 })
    assert.deepEqual(await entriesOf(store, 'run'), ['0', '1', '2'])
  },

  'a producer that repeats the append that ended the run gets a duplicate, all others an end':
    async store => {
      await begin(store, 'run')
      const producer = { id: 'p', epoch: 3, seq: 0 }
      await expectAppend(store, 'run', { entries: ['a'], producer }, 'appended')
      const last = { entries: ['b'], ending: 'done', producer: { ...producer, seq: 1 } }
      await expectAppend(store, 'run', last, 'appended')
      const again = await expectAppend(store, 'run', last, 'duplicate')
      assert.deepEqual(again.producer, { epoch: 3, seq: 1 })
      for (const other of [
        producer,
        { ...producer, seq: 2 },
        { ...producer, epoch: 4 },
        { ...producer, id: 'q' },
      ]) {
        await expectAppend(store, 'run', { entries: ['c'], producer: other }, 'ended')
      }
      await begin(store, 'ended by another')
      await expectAppend(store, 'ended by another', { ending: 'done' }, 'appended')
      await expectAppend(store, 'ended by another', { ...last, entries: [] }, 'ended')
    },

  'a producer begins each epoch with 0, skips none, and cannot go back': async store => {
    await begin(store, 'run')
    const by = (epoch: number, seq: number, id = 'p') => ({ producer: { id, epoch, seq } })
    const undefinedYet = await expectAppend(store, 'run', by(5, 1), 'gap')
    assert.equal(undefinedYet.producer, undefined)
    await expectAppend(store, 'run', by(5, 0), 'appended')
    await expectAppend(store, 'run', by(5, 2), 'gap')
    await expectAppend(store, 'run', by(5, 1), 'appended')
    await expectAppend(store, 'run', by(6, 1), 'wrong start')
    await expectAppend(store, 'run', by(8, 0), 'appended')
    const stale = await expectAppend(store, 'run', by(5, 2), 'stale epoch')
    assert.deepEqual(stale.producer, { epoch: 8, seq: 0 })
    await expectAppend(store, 'run', by(7, 0), 'stale epoch')
    await expectAppend(store, 'run', by(8, 0), 'duplicate')
    await expectAppend(store, 'run', by(0, 0, 'q'), 'appended')
    await expectAppend(store, 'run', by(8, 1), 'appended')
    assert.equal((await expectAppend(store, 'run', {}, 'appended')).producer, undefined)
  },

  'numbers of producers may be as large as any safe integer': async store => {
    await begin(store, 'run')
    const epoch = Number.MAX_SAFE_INTEGER
    const producer = { id: 'p', epoch, seq: 0 }
    const appended = await expectAppend(store, 'run', { producer }, 'appended')
    assert.deepEqual(appended.producer, { epoch, seq: 0 })
    await expectAppend(store, 'run', { producer: { ...producer, epoch: epoch - 1 } }, 'stale epoch')
    await expectAppend(store, 'run', { producer }, 'duplicate')
  },

  'the order of appends must rise, bytewise': async store => {
    await begin(store, 'run')
    const orders = ['', '\0', '1', '10', '2', 'B', 'a', 'ab', 'ä', '\uffff', '\u{10000}']
    for (const [index, order] of orders.entries()) {
      await expectAppend(store, 'run', { entries: ['x'], order }, 'appended')
      // Without an order, an append neither needs one nor changes it.
      await expectAppend(store, 'run', {}, 'appended')
      for (const old of orders.slice(0, index + 1)) {
        await expectAppend(store, 'run', { entries: ['y'], order: old }, 'wrong order')
      }
    }
    assert.deepEqual(await entriesOf(store, 'run'), Array(orders.length).fill('x'))
  },

  'reasons to refuse an append are checked in their order, and nothing of it is kept':
    async store => {
      const run = await begin(store, 'run')
      const by = (epoch: number, seq: number) => ({ id: 'p', epoch, seq })
      const first = { producer: by(1, 0), order: 'm' }
      await expectAppend(store, 'run', first, 'appended')
      const additions: [Partial<RunAddition>, RunAdditionOutcome][] = [
        [{ producer: by(1, 0), order: 'a' }, 'duplicate'],
        [{ producer: by(0, 5), order: 'a' }, 'stale epoch'],
        [{ producer: by(2, 5), order: 'a' }, 'wrong start'],
        [{ producer: by(1, 5), order: 'a' }, 'gap'],
        [{ producer: by(1, 1), order: 'a' }, 'wrong order'],
        [{ producer: by(2, 0), order: 'a' }, 'wrong order'],
      ]
      for (const [addition, outcome] of additions) {
        await expectAppend(store, 'run', { entries: ['x'], ending: 'x', ...addition }, outcome)
        const other = { ...addition, generation: 'another!' }
        await expectAppend(store, 'run', other, 'unknown')
      }
      assert.deepEqual(await store.get('run'), run)
      // An append that was refused for its order does not use up the producer's number.
      const next = { producer: by(1, 1), order: 'n', ending: 'done' }
      await expectAppend(store, 'run', next, 'appended')
      await expectAppend(store, 'run', { producer: by(0, 5), order: 'a' }, 'ended')
    },

  'the oldest entries are dropped beyond maxLength, but never the newest': async store => {
    await begin(store, 'run', { maxLength: 25 })
    const entries = ['a', 'b', 'c', 'd'].map(text => text.repeat(10))
    for (const entry of entries) await expectAppend(store, 'run', { entries: [entry] }, 'appended')
    assert.deepEqual(await store.read('run', 0, EVERYTHING), {
      run: await store.get('run'),
      after: 2,
      entries: entries.slice(2),
    })
    assert.deepEqual(await entriesOf(store, 'run', 3), entries.slice(3))
    assert.equal((await store.get('run'))?.start, 2)
    // Several at once are dropped like one after the other.
    await expectAppend(store, 'run', { entries: [...entries, 'e', ''] }, 'appended')
    const page = await store.read('run', 1, EVERYTHING)
    assert.deepEqual(page?.entries, [...entries.slice(2), 'e', ''])
    assert.equal(page?.after, 6)
    const large = 'x'.repeat(100)
    await expectAppend(store, 'run', { entries: [large] }, 'appended')
    assert.deepEqual(await entriesOf(store, 'run'), [large])
    assert.equal((await store.get('run'))?.start, 10)
    await expectAppend(store, 'run', { entries: ['z'] }, 'appended')
    assert.deepEqual(await entriesOf(store, 'run'), ['z'])
    await begin(store, 'at once', { maxLength: 25, entries })
    assert.deepEqual(await entriesOf(store, 'at once'), entries.slice(2))
  },

  'maxLength counts characters, not bytes': async store => {
    const entries = ['ä', '\u20ac', '\u{1F600}'].map(text => text.repeat(5))
    await begin(store, 'run', { maxLength: 20, entries })
    assert.deepEqual(await entriesOf(store, 'run'), entries)
    await expectAppend(store, 'run', { entries: ['x'] }, 'appended')
    assert.deepEqual(await entriesOf(store, 'run'), [...entries.slice(1), 'x'])
  },
}

type RunAdditionOutcome = Awaited<ReturnType<RunStore['append']>>['outcome']

const reads: RunPlan = {
  'a page has no more entries and characters than its limits, but at least one': async store => {
    const entries = Array.from({ length: 10 }, (_, index) => `${index}`.repeat(10))
    const run = await begin(store, 'run', { entries })
    for (const [limits, count] of [
      [{ entries: 3, length: 1000 }, 3],
      [{ entries: 100, length: 30 }, 3],
      [{ entries: 100, length: 39 }, 3],
      [{ entries: 100, length: 1 }, 1],
      [{ entries: 1, length: 1000 }, 1],
      [{ entries: Number.POSITIVE_INFINITY, length: Number.POSITIVE_INFINITY }, 10],
    ] as const) {
      const page = await store.read('run', 0, limits)
      assert.deepEqual(page, { run, after: 0, entries: entries.slice(0, count) })
    }
    for (let after = 0; after < 10; after++) {
      const page = await store.read('run', after, { entries: 2, length: 1000 })
      assert.deepEqual(page, { run, after, entries: entries.slice(after, after + 2) })
    }
  },

  'the limit of characters does not count bytes': async store => {
    const entries = ['ä', '\u20ac', '\u{1F600}', 'x'].map(text => text.repeat(10))
    await begin(store, 'run', { entries })
    const page = await store.read('run', 0, { entries: 100, length: 40 })
    assert.deepEqual(page?.entries, entries.slice(0, 3))
  },

  'reading after the tail returns no entries': async store => {
    const run = await begin(store, 'run', { entries: ['a', 'b'] })
    for (const after of [2, 3, 1_000_000, Number.MAX_SAFE_INTEGER - 1]) {
      assert.deepEqual(await store.read('run', after, EVERYTHING), { run, after, entries: [] })
    }
  },

  'entries come back as they were': async store => {
    const entries = ['', allOfUnicode(), '\0', '\r\n', '\u2028', '"\\/', '{}', '']
    await begin(store, 'run', { meta: allOfUnicode(), entries, ending: '\u{1F600}\0' })
    const page = await store.read('run', 0, EVERYTHING)
    assert.deepEqual(page?.entries, entries)
    assert.equal(page?.run.meta, allOfUnicode())
    assert.equal(page?.run.ending, '\u{1F600}\0')
  },

  'half of a surrogate pair comes back as it was, or as U+FFFD': async store => {
    const texts = ['\ud800', 'a\udc00b']
    const run = await begin(store, 'run', { meta: texts[0] as string, entries: texts })
    const entries = await entriesOf(store, 'run')
    for (const [index, text] of texts.entries()) {
      const accepted = [text, text.replace(/[\ud800-\udfff]/, '\ufffd')]
      assert.ok(accepted.includes(entries[index] as string))
    }
    assert.match(run.meta, /^[\ud800\ufffd]$/)
  },

  'entries of a megabyte come back as they were, page by page': async store => {
    const entries = ['a', 'ä', '\u{1F600}'].map(text => text.repeat(1024 * 1024))
    await begin(store, 'run')
    for (const entry of entries) await expectAppend(store, 'run', { entries: [entry] }, 'appended')
    for (const [after, entry] of entries.entries()) {
      const page = await store.read('run', after, { entries: 10, length: 1000 })
      assert.ok(page?.entries.length === 1 && page.entries[0] === entry, `entry ${after} differs`)
    }
  },

  'ten thousand entries come back, page by page': async store => {
    const entries = Array.from({ length: 10_000 }, (_, index) => `${index}`)
    await begin(store, 'run', { entries: entries.slice(0, 5000) })
    await expectAppend(store, 'run', { entries: entries.slice(5000) }, 'appended')
    const all: string[] = []
    while (all.length < entries.length) {
      const page = await store.read('run', all.length, { entries: 777, length: 1_000_000 })
      assert.equal(page?.entries.length, Math.min(777, entries.length - all.length))
      all.push(...(page?.entries ?? []))
    }
    assert.deepEqual(all, entries)
    assert.deepEqual(await entriesOf(store, 'run', 9_998), ['9998', '9999'])
  },
}

const forks: RunPlan = {
  'a fork begins with the entries of its source and goes on by itself': async store => {
    const source = await begin(store, 'source', { meta: 's', entries: ['1', '2', '3'] })
    const fork = await begin(store, 'fork', {
      meta: 'f',
      entries: ['x'],
      fork: { from: 'source', at: 2 },
    })
    assert.equal(fork.generation, source.generation)
    assert.equal(fork.meta, 'f')
    assert.equal(fork.start, 0)
    assert.equal(fork.tail, 3)
    await expectAppend(store, 'source', { entries: ['4'], ending: 'done' }, 'appended')
    await expectAppend(store, 'fork', { entries: ['y'] }, 'appended')
    assert.deepEqual(await entriesOf(store, 'source'), ['1', '2', '3', '4'])
    assert.deepEqual(await entriesOf(store, 'fork'), ['1', '2', 'x', 'y'])
    assert.equal(await statusOf(store, 'fork'), 'open')
  },

  'a fork can be made of an ended run, from its beginning and from its tail': async store => {
    await begin(store, 'source', { entries: ['1', '2'], ending: 'done' })
    const run = await begin(store, 'all', { fork: { from: 'source', at: 2 } })
    assert.equal(run.status, 'open')
    await begin(store, 'none', { fork: { from: 'source', at: 0 }, entries: ['x'] })
    assert.deepEqual(await entriesOf(store, 'all'), ['1', '2'])
    assert.deepEqual(await entriesOf(store, 'none'), ['x'])
  },

  'a fork has neither the producers nor the order of its source': async store => {
    await begin(store, 'source')
    const producer = { id: 'p', epoch: 3, seq: 0 }
    await expectAppend(store, 'source', { producer, order: 'z' }, 'appended')
    await begin(store, 'fork', { fork: { from: 'source', at: 0 } })
    const early = { producer: { ...producer, epoch: 0 }, order: 'a' }
    await expectAppend(store, 'fork', early, 'appended')
  },

  'forks of forks are read as one, from any position and in any pages': async store => {
    await begin(store, 'a', { entries: ['a1', 'a2', 'a3', 'a4'] })
    await begin(store, 'b', { fork: { from: 'a', at: 3 }, entries: ['b4', 'b5', 'b6'] })
    // `c` forks among its parent's own entries, `d` among those of its grandparent, `e` at its parent's tail.
    await begin(store, 'c', { fork: { from: 'b', at: 5 }, entries: ['c6', 'c7'] })
    await begin(store, 'd', { fork: { from: 'b', at: 2 }, entries: ['d3'] })
    await begin(store, 'e', { fork: { from: 'd', at: 3 } })
    const expected = {
      c: ['a1', 'a2', 'a3', 'b4', 'b5', 'c6', 'c7'],
      d: ['a1', 'a2', 'd3'],
      e: ['a1', 'a2', 'd3'],
    }
    for (const [id, entries] of Object.entries(expected)) {
      assert.equal((await store.get(id))?.tail, entries.length)
      for (let after = 0; after <= entries.length; after++) {
        for (const count of [1, 2, 3, 100]) {
          const page = await store.read(id, after, { entries: count, length: 100 })
          assert.deepEqual(page?.entries, entries.slice(after, after + count))
        }
        const page = await store.read(id, after, { entries: 100, length: 6 })
        assert.deepEqual(page?.entries, entries.slice(after, after + 3))
      }
    }
  },

  'a fork is refused without a source, and at a position that the source lacks': async store => {
    const refuses = async (from: string, at: number, outcome: string) => {
      assert.deepEqual(await store.create('fork', { meta: '', fork: { from, at } }), { outcome })
      assert.equal(await store.get('fork'), undefined)
    }
    await refuses('source', 0, 'no source')
    await refuses('fork', 0, 'no source')
    await begin(store, 'source', { entries: ['aaaaa', 'bbbbb', 'ccccc'], maxLength: 10 })
    await refuses('source', 4, 'no position')
    await refuses('source', 0, 'no position')
    await begin(store, 'fork', { fork: { from: 'source', at: 2 } })
    const page = await store.read('fork', 0, EVERYTHING)
    assert.equal(page?.run.start, 1)
    assert.equal(page?.after, 1)
    assert.deepEqual(page?.entries, ['bbbbb'])
    assert.equal(
      (await store.create('source', { meta: '', fork: { from: 'nothing', at: 0 } })).outcome,
      'exists',
    )
  },

  'a fork that drops its own oldest entries has dropped those of its source': async store => {
    await begin(store, 'source', { entries: ['1', '2'] })
    const entries = ['a'.repeat(10), 'b'.repeat(10)]
    await begin(store, 'fork', { fork: { from: 'source', at: 2 }, maxLength: 15, entries })
    for (const after of [0, 1, 3]) {
      const page = await store.read('fork', after, EVERYTHING)
      assert.equal(page?.run.start, 3)
      assert.equal(page?.after, 3)
      assert.deepEqual(page?.entries, entries.slice(1))
    }
    const create = { meta: '', fork: { from: 'fork', at: 2 } }
    assert.deepEqual(await store.create('of it', create), { outcome: 'no position' })
  },

  'a deleted source is kept for its forks, and goes with the last of them': async store => {
    const source = await begin(store, 'source', { entries: ['1', '2'] })
    await begin(store, 'one', { fork: { from: 'source', at: 2 } })
    await begin(store, 'two', { fork: { from: 'source', at: 1 } })
    assert.equal((await store.delete('source'))?.status, 'open')
    const deleted = await store.get('source')
    assert.deepEqual(deleted, { ...source, status: 'deleted' })
    assert.deepEqual(await store.create('source', { meta: '' }), {
      outcome: 'exists',
      run: deleted,
    })
    const { run } = await expectAppend(store, 'source', { entries: ['3'] }, 'unknown')
    assert.deepEqual(run, deleted)
    assert.deepEqual(await store.read('source', 0, EVERYTHING), { run, after: 0, entries: [] })
    assert.deepEqual(await store.renew('source'), deleted)
    const third = await store.create('three', { meta: '', fork: { from: 'source', at: 1 } })
    assert.deepEqual(third, { outcome: 'source deleted' })
    assert.deepEqual(await store.delete('source'), deleted)
    assert.deepEqual(await entriesOf(store, 'one'), ['1', '2'])
    await store.delete('one')
    assert.equal(await statusOf(store, 'source'), 'deleted')
    assert.deepEqual(await entriesOf(store, 'two'), ['1'])
    await store.delete('two')
    assert.equal(await store.get('source'), undefined)
    await begin(store, 'source')
    assert.deepEqual(await entriesOf(store, 'source'), [])
  },

  'a chain of deleted runs is kept for its newest, and goes with it': async store => {
    await begin(store, 'a', { entries: ['1'] })
    await begin(store, 'b', { fork: { from: 'a', at: 1 }, entries: ['2'] })
    await begin(store, 'c', { fork: { from: 'b', at: 2 }, entries: ['3'] })
    await store.delete('b')
    await store.delete('a')
    assert.equal(await statusOf(store, 'a'), 'deleted')
    assert.equal(await statusOf(store, 'b'), 'deleted')
    assert.deepEqual(await entriesOf(store, 'c'), ['1', '2', '3'])
    await store.delete('c')
    for (const id of ['a', 'b', 'c']) assert.equal(await store.get(id), undefined)
  },

  'a source that expires is kept for its forks': async store => {
    await begin(store, 'source', { entries: ['1'], ttl: 1000 })
    await begin(store, 'fork', { fork: { from: 'source', at: 1 }, entries: ['2'] })
    await waitForStatus(store, 'source', 'deleted')
    assert.deepEqual(await entriesOf(store, 'fork'), ['1', '2'])
    const another = await store.create('another', { meta: '', fork: { from: 'source', at: 1 } })
    assert.equal(another.outcome, 'source deleted')
    await store.delete('fork')
    await waitForStatus(store, 'source', 'unknown')
  },

  'a deleted source goes when its last fork expires': async store => {
    await begin(store, 'source', { entries: ['1'] })
    await begin(store, 'fork', { fork: { from: 'source', at: 1 }, ttl: 200 })
    await store.delete('source')
    await waitForStatus(store, 'fork', 'unknown')
    await waitForStatus(store, 'source', 'unknown')
    await begin(store, 'source')
  },
}

const times: RunPlan = {
  'a run expires after its ttl, even if its record is read meanwhile': async store => {
    await begin(store, 'run', { ttl: 100, entries: ['a'] })
    await waitForStatus(store, 'run', 'unknown')
    assert.equal(await store.read('run', 0, EVERYTHING), undefined)
    assert.equal(await store.renew('run'), undefined)
    assert.equal(await store.delete('run'), undefined)
    await expectAppend(store, 'run', { entries: ['b'] }, 'unknown')
    const fork = await store.create('fork', { meta: '', fork: { from: 'run', at: 0 } })
    assert.equal(fork.outcome, 'no source')
    await begin(store, 'run')
    assert.deepEqual(await entriesOf(store, 'run'), [])
  },

  'an expired run is remembered for as long as it says, and no longer': async store => {
    const run = await begin(store, 'run', { ttl: 50, remember: 600_000, entries: ['a'] })
    await waitForStatus(store, 'run', 'expired')
    const expired: RunRecord = { ...run, status: 'expired' }
    assert.deepEqual(await store.get('run'), expired)
    const again = await store.create('run', { meta: '' })
    assert.deepEqual(again, { outcome: 'exists', run: expired })
    const refused = await expectAppend(store, 'run', { entries: ['b'] }, 'unknown')
    assert.deepEqual(refused.run, expired)
    assert.deepEqual(await store.renew('run'), expired)
    const page = await store.read('run', 0, EVERYTHING)
    assert.deepEqual(page, { run: expired, after: 0, entries: [] })
    const fork = await store.create('fork', { meta: '', fork: { from: 'run', at: 0 } })
    assert.equal(fork.outcome, 'no source')
    assert.deepEqual(await store.delete('run'), expired)
    await begin(store, 'run', { ttl: 20, remember: 100 })
    await waitForStatus(store, 'run', 'unknown')
    await begin(store, 'run')
  },

  'reading, appending and renewing keep a run from expiring': async store => {
    const actions = {
      read: (id: string) => store.read(id, 0, { entries: 1, length: 1 }),
      append: (id: string) => store.append(id, { entries: ['x'] }),
      renew: (id: string) => store.renew(id),
    }
    const ttl = 1000
    await Promise.all(
      Object.entries(actions).map(([name, action]) =>
        keeps(
          ttl,
          async round => {
            const ids = [`${name} ${round} kept`, `${name} ${round} left`] as [string, string]
            for (const id of ids) await begin(store, id, { ttl })
            return ids
          },
          action,
          async id => (await store.get(id)) === undefined,
        ),
      ),
    )
  },

  'a run with expiresAt expires then, whatever is done with it': async store => {
    const now = (await begin(store, 'clock')).createdAt
    const run = await begin(store, 'run', { expiresAt: now + 300, ttl: 600_000 })
    assert.equal(run.expiresAt, now + 300)
    await until('expired', async () => {
      await store.append('run', { entries: ['x'] })
      await store.renew('run')
      return (await store.read('run', 0, EVERYTHING)) === undefined || undefined
    })
    await begin(store, 'over', { expiresAt: now - 1000, entries: ['a'] })
    assert.equal(await store.get('over'), undefined)
  },

  'a run whose lease is over ends as the lease says': async store => {
    const lease = { ms: 100, ending: 'lost' }
    const { leaseLeft } = await begin(store, 'run', { lease, entries: ['a'] })
    assert.ok(leaseLeft !== undefined && leaseLeft > 0 && leaseLeft <= 100)
    // Reading does not renew the lease.
    const run = await until('ended', async () => {
      const page = await store.read('run', 0, EVERYTHING)
      return page?.run.status === 'ended' ? page.run : undefined
    })
    assert.equal(run.ending, 'lost')
    assert.equal(run.leaseLeft, undefined)
    assert.equal(typeof run.endedAt, 'number')
    const producer = { id: 'p', epoch: 0, seq: 0 }
    await expectAppend(store, 'run', { entries: ['b'] }, 'ended')
    await expectAppend(store, 'run', { entries: ['b'], producer }, 'ended')
    assert.deepEqual(await store.renew('run'), run)
    assert.deepEqual(await entriesOf(store, 'run'), ['a'])
  },

  'a run that has expired or is deleted has no lease, and is not ended by it': async store => {
    const lease = { ms: 1000, ending: 'lost' }
    await begin(store, 'expired', { lease, ttl: 20, remember: 600_000 })
    await begin(store, 'deleted', { lease })
    await begin(store, 'fork', { fork: { from: 'deleted', at: 0 } })
    await store.delete('deleted')
    await begin(store, 'ended', { lease })
    await waitForStatus(store, 'ended', 'ended')
    for (const status of ['expired', 'deleted']) {
      const run = await store.get(status)
      assert.equal(run?.status, status)
      assert.equal(run?.ending, '')
      assert.equal(run?.endedAt, undefined)
      assert.equal(run?.leaseLeft, undefined)
    }
  },

  'any call notices that the lease is over': async store => {
    const lease = { ms: 20, ending: 'lost' }
    const calls: Record<string, (id: string) => Promise<string | undefined>> = {
      append: async id => (await store.append(id, { entries: [] })).run?.status,
      renew: async id => (await store.renew(id))?.status,
      create: async id => ((await store.create(id, { meta: '' })) as { run: RunRecord }).run.status,
      delete: async id => (await store.delete(id))?.status,
    }
    for (const [name, call] of Object.entries(calls)) {
      await begin(store, name, { lease })
      await begin(store, `twin of ${name}`, { lease })
      // The twin was begun later.
      await waitForStatus(store, `twin of ${name}`, 'ended')
      assert.equal(await call(name), 'ended')
    }
  },

  'appending and renewing keep the lease': async store => {
    const lease = { ms: 1000, ending: 'lost' }
    const actions = {
      append: (id: string) => store.append(id, { entries: ['x'] }),
      renew: (id: string) => store.renew(id),
    }
    await Promise.all(
      Object.entries(actions).map(([name, action]) =>
        keeps(
          lease.ms,
          async round => {
            const ids = [`${name} ${round} kept`, `${name} ${round} left`] as [string, string]
            for (const id of ids) await begin(store, id, { lease })
            return ids
          },
          action,
          async id => (await statusOf(store, id)) === 'ended',
        ),
      ),
    )
  },
}

const watches: RunPlan = {
  'a watcher is called without news first, and then with what changed or without': async store => {
    const begun = await begin(store, 'run', { entries: ['a'] })
    const watch = await startedWatch(store, 'run')
    let at = 1
    const additions: Partial<RunAddition>[] = [
      { entries: ['b'] },
      { entries: ['c', '\u{1F600}\0"', ''] },
      { entries: [] },
      { entries: ['d'], ending: 'done' },
    ]
    for (const addition of additions) {
      const { length } = watch.calls
      const { run } = await expectAppend(store, 'run', addition, 'appended')
      await watch.until('called', () => watch.calls.length > length)
      assert.equal(watch.calls.length, length + 1)
      const news = watch.calls.at(-1)
      // A store may also call without news; the watcher then reads.
      if (news !== undefined) {
        assert.deepEqual(news, { run, after: at, entries: addition.entries ?? [] })
      }
      at += addition.entries?.length ?? 0
    }
    assert.deepEqual(await entriesOf(store, 'run'), ['a', 'b', 'c', '\u{1F600}\0"', '', 'd'])
    assert.equal((await store.get('run'))?.generation, begun.generation)
  },

  'a watcher is called for large entries, with all of them or without any': async store => {
    await begin(store, 'run')
    const watch = await startedWatch(store, 'run')
    const entries = ['x'.repeat(1024 * 1024), 'y']
    await expectAppend(store, 'run', { entries }, 'appended')
    await watch.until('called', () => watch.calls.length > 1)
    const news = watch.calls[1]
    if (news !== undefined)
      assert.ok(news.entries.every((entry, index) => entry === entries[index]))
  },

  'a watcher is not called for appends that were refused': async store => {
    await begin(store, 'run')
    const watch = await startedWatch(store, 'run')
    const producer = { id: 'p', epoch: 0, seq: 5 }
    await expectAppend(store, 'run', { entries: ['a'], producer }, 'gap')
    await expectAppend(store, 'run', { entries: ['a'], generation: 'another!' }, 'unknown')
    await expectAppend(store, 'run', { entries: ['b'] }, 'appended')
    await watch.until('called', () => watch.calls.length > 1)
    const news = watch.calls[1]
    if (news !== undefined) assert.deepEqual(news.entries, ['b'])
  },

  'a watcher is called when the run is deleted, without news': async store => {
    await begin(store, 'run')
    const watch = await startedWatch(store, 'run')
    await store.delete('run')
    await watch.until('called', () => watch.calls.length > 1)
    assert.equal(watch.calls[1], undefined)
  },

  'a watcher is called when a lease is found to be over': async store => {
    await begin(store, 'run', { lease: { ms: 500, ending: 'lost' } })
    const watch = await startedWatch(store, 'run')
    await waitForStatus(store, 'run', 'ended')
    await watch.until('called', () => watch.calls.length > 1)
    const news = watch.calls[1]
    if (news !== undefined) {
      assert.deepEqual(news, { run: await store.get('run'), after: 0, entries: [] })
    }
  },

  'a run can be watched before it begins': async store => {
    const watch = await startedWatch(store, 'run')
    await begin(store, 'run')
    const { length } = watch.calls
    await expectAppend(store, 'run', { entries: ['a'] }, 'appended')
    await watch.until('called', () => watch.calls.length > length)
  },

  'a watcher that has stopped is not called again, and the others are': async store => {
    await begin(store, 'run')
    const stopped = await startedWatch(store, 'run')
    const atOnce = startWatch(store, 'run')
    atOnce.stop()
    const other = await startedWatch(store, 'run')
    const appended = store.append('run', { entries: ['a'] })
    stopped.stop()
    stopped.stop()
    await appended
    await other.until('called', () => other.calls.length > 1)
    assert.equal(stopped.calls.length, 1)
    assert.equal(atOnce.calls.length, 0)
    // The last watcher leaves, and another one comes.
    other.stop()
    const late = await startedWatch(store, 'run')
    await expectAppend(store, 'run', { entries: ['b'] }, 'appended')
    await late.until('called', () => late.calls.length > 1)
    assert.equal(other.calls.length, 2)
  },

  'watchers that come and go quickly miss nothing': async store => {
    await begin(store, 'run')
    for (let round = 0; round < 20; round++) {
      for (let index = 0; index < 5; index++) startWatch(store, 'run').stop()
      const watch = await startedWatch(store, 'run')
      await expectAppend(store, 'run', { entries: ['x'] }, 'appended')
      await watch.until('called', () => watch.calls.length > 1)
      watch.stop()
    }
  },

  'a closed store calls no watcher, and can be closed again': async store => {
    await begin(store, 'run')
    const watch = await startedWatch(store, 'run')
    const inFlight = store.append('run', { entries: ['a'] })
    await Promise.all([store.close(), store.close()])
    await store.close()
    assert.equal((await inFlight).outcome, 'appended')
    const { length } = watch.calls
    const late = startWatch(store, 'run')
    late.stop()
    watch.stop()
    assert.equal(watch.calls.length, length)
  },
}

const manyProcesses: RunPlan = {
  'of 50 concurrent creations of the same run, exactly one succeeds': async (store, open) => {
    const stores = [store, open()]
    const created = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        (stores[index % 2] as RunStore).create('run', { meta: `${index}`, entries: [`${index}`] }),
      ),
    )
    const winners = created.filter(({ outcome }) => outcome === 'created')
    assert.equal(winners.length, 1)
    const { run } = winners[0] as { run: RunRecord }
    for (const one of created) assert.deepEqual((one as { run: RunRecord }).run, run)
    assert.deepEqual(await entriesOf(store, 'run'), [run.meta])
  },

  'of two processes with the same producer, each append is stored once and in order': async (
    store,
    open,
  ) => {
    await begin(store, 'run')
    const all = Array.from({ length: 100 }, (_, seq) => `${seq}`)
    const outcomes = await Promise.all(
      [store, open()].map(async one => {
        const own: string[] = []
        for (const [seq, entry] of all.entries()) {
          const producer = { id: 'p', epoch: 0, seq }
          own.push((await one.append('run', { entries: [entry], producer })).outcome)
        }
        return own
      }),
    )
    assert.deepEqual(await entriesOf(store, 'run'), all)
    for (const seq of all.keys()) {
      const both = outcomes.map(own => own[seq]).sort()
      assert.deepEqual(both, ['appended', 'duplicate'])
    }
  },

  'of two processes that end a run, one succeeds': async (store, open) => {
    for (let round = 0; round < 10; round++) {
      await begin(store, `${round}`)
      const ended = await Promise.all(
        [store, open()].map((one, index) =>
          one.append(`${round}`, { entries: [`${index}`], ending: `${index}` }),
        ),
      )
      assert.deepEqual(ended.map(({ outcome }) => outcome).sort(), ['appended', 'ended'])
      const [entry] = await entriesOf(store, `${round}`)
      assert.equal((await store.get(`${round}`))?.ending, entry)
    }
  },

  'a reader in another process gets everything, in order, and learns of the end': async (
    store,
    open,
  ) => {
    await begin(store, 'run')
    const readers = [follow(open(), 'run'), follow(open(), 'run'), follow(store, 'run')]
    const all = Array.from({ length: 300 }, (_, index) => `${index}`)
    for (const entry of all) await expectAppend(store, 'run', { entries: [entry] }, 'appended')
    await expectAppend(store, 'run', { ending: 'done' }, 'appended')
    for (const entries of await Promise.all(readers)) assert.deepEqual(entries, all)
    assert.deepEqual(await follow(open(), 'run'), all)
  },

  'closing one process does not affect the others': async (store, open) => {
    await begin(store, 'run')
    const leaving = open()
    const gone = await startedWatch(leaving, 'run')
    const watch = await startedWatch(store, 'run')
    await leaving.close()
    await expectAppend(store, 'run', { entries: ['a'] }, 'appended')
    await watch.until('called', () => watch.calls.length > 1)
    assert.equal(gone.calls.length, 1)
    await assert.rejects(leaving.get('run'), { code: /^ERR_SSE_/ })
  },
}
