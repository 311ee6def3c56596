/**
 * What every engine must do, as tests for any test runner.
 *
 * @module koa-sse-pool/testing
 */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { EventLog } from '../log/log.js'
import { faultTests } from './faults.js'
import { append, ids, type LogProcess, start, type TestPlan } from './process.js'
import type { LogFault, SharedLog } from './shared-log.js'
import { allOfUnicode } from './unicode.js'

export { type EventLog, formatTarget, type TargetAddress } from '../log/log.js'
export type {
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
} from '../log/run-store.js'
export { type RunStoreSuiteOptions, runStoreSuite } from './run-store.js'
export type { RunFault, SharedRuns } from './runs.js'
export type { LogFault, SharedLog } from './shared-log.js'

/** The options of {@link eventLogSuite}. */
export interface EventLogSuiteOptions {
  /**
   * The `test` function of your runner. The suite waits up to 25 s for an engine to recover, so give
   * tests with faults a timeout of at least 30 s.
   */
  test: (name: string, run: () => Promise<void>) => unknown
  /** Creates a fresh, empty log. Called at the start of each test. */
  create: () => Promise<SharedLog> | SharedLog
  /**
   * The faults to test; default none. What `create` returns must have the methods of the same names, and
   * `start` for `stop`.
   */
  faults?: readonly LogFault[] | undefined
  /**
   * Whether the log belongs to a single process, as the memory log does; default `false`. The tests with
   * several processes and with repeated appends are then left out.
   */
  local?: boolean | undefined
}

/**
 * Tests an engine: declares the tests that every {@link EventLog} must pass, by calling `test` once for
 * each. It works with any runner whose `test` takes a name and an async function.
 *
 * @example
 * ```js
 * import { test } from 'node:test'
 * import { eventLogSuite } from 'koa-sse-pool/testing'
 *
 * eventLogSuite({
 *   test: (name, run) => test(name, { timeout: 40_000 }, run),
 *   faults: ['flush'],
 *   async create() {
 *     const database = await createTestDatabase()
 *     return {
 *       open: () => myLog({ database }),
 *       close: () => database.drop(),
 *       flush: () => database.empty(),
 *     }
 *   },
 * })
 * ```
 */
export function eventLogSuite(options: EventLogSuiteOptions): void {
  const { test, create, faults = [], local = false } = options
  const run = (plan: TestPlan) => {
    for (const [name, body] of Object.entries(plan)) {
      test(name, async () => {
        const shared = await create()
        const processes: LogProcess[] = []
        try {
          await body(shared, async () => {
            const process = start(shared.open())
            processes.push(process)
            return process
          })
        } finally {
          await Promise.all(processes.map(({ log }) => log.close()))
          await shared.close()
        }
      })
    }
  }
  run(oneProcess)
  if (!local) run(manyProcesses)
  for (const fault of faults) run(faultTests[fault])
}

const oneProcess: TestPlan = {
  'an empty log begins with a mark, so that there is a cursor': async (_, open) => {
    const process = await open()
    await process.opened
    assert.deepEqual(process.resets, ['boot'])
    assert.notEqual(process.window.length, 0)
    assert.deepEqual(new Set(process.window.map(({ target }) => target)), new Set(['']))
    assert.equal(await process.log.barrier(), process.window.at(-1)?.id)
  },

  'an entry arrives with the id that append resolves to': async (_, open) => {
    const process = await open()
    await process.opened
    const id = await append(process, 'hello')
    assert.match(id, /^[0-9A-Za-z_-]{1,64}$/)
    await process.has(['hello'])
    assert.equal(process.entries[0]?.id, id)
    assert.equal(await process.log.barrier(), id)
  },

  'entries arrive once each, in the order of their appends': async (_, open) => {
    const process = await open()
    await process.opened
    const frames = Array.from({ length: 2000 }, (_, index) => `${index}`)
    const appended = await Promise.all(frames.map(frame => append(process, frame)))
    await process.has(frames)
    assert.deepEqual(ids(process), appended)
  },

  'ids compare in log order, and other strings compare as NaN': async (_, open) => {
    const process = await open()
    const { log } = process
    await process.opened
    const appended: string[] = []
    for (const frame of 'abc') appended.push(await append(process, frame))
    for (const [i, a] of appended.entries()) {
      for (const [j, b] of appended.entries()) {
        assert.equal(Math.sign(log.compare(a, b)), Math.sign(i - j), `compare('${a}', '${b}')`)
      }
    }
    for (const foreign of ['', ' ', '!', '../x', 'sse.end', 'a'.repeat(16_384)]) {
      assert.ok(Number.isNaN(log.compare(foreign, appended[0] as string)), foreign)
      assert.ok(Number.isNaN(log.compare(appended[0] as string, foreign)), foreign)
    }
  },

  'targets, keys and frames arrive unchanged': async (_, open) => {
    const process = await open()
    await process.opened
    const unicode = allOfUnicode()
    const entries = [
      { target: '*', frame: 'data: a\ndata: b\n\n' },
      { target: '@ada\nbob', frame: unicode, key: unicode },
      { target: '#a\nada\nbob\n\t#b\n\t<1700000000000\n\t~', frame: 'data: a\n\n' },
      { target: '#\u{1F600} \t"\'\\', frame: '\r\n\0 ', key: '' },
      { target: '-__proto__', frame: '', key: '__proto__' },
    ]
    const sent = entries.map((entry, index) => ({ ...entry, nonce: `asItWas${index}` }))
    for (const entry of sent) await process.log.append(entry)
    await process.until('all arrived', () => process.entries.length === sent.length)
    const arrived = process.entries.map(({ id: _, ...entry }) => entry)
    assert.deepEqual(arrived, sent)
  },

  'large frames arrive unchanged': async (_, open) => {
    const process = await open()
    await process.opened
    const frames = ['a', 'ä', '\u{1F600}'].map(text => text.repeat(1024 * 1024))
    await Promise.all(frames.map(frame => append(process, frame)))
    await process.until('all arrived', () => process.entries.length === frames.length)
    assert.ok(process.entries.every(({ frame }, index) => frame === frames[index]))
  },

  'a closed log feeds nothing and rejects appends, and can be closed again': async (_, open) => {
    const process = await open()
    await process.opened
    const inFlight = append(process, 'in flight')
    await Promise.all([process.log.close(), process.log.close()])
    await process.log.close()
    await inFlight
    const { length } = process.window
    await assert.rejects(append(process, 'late'), { code: /^ERR_SSE_/ })
    assert.equal(process.window.length, length)
  },
}

const manyProcesses: TestPlan = {
  'all processes see the same entries in the same order': async (_, open) => {
    const processes = [await open(), await open(), await open()]
    await Promise.all(processes.map(({ opened }) => opened))
    const appends = processes.flatMap((process, number) =>
      Array.from({ length: 200 }, (_, index) => append(process, `${number}-${index}`)),
    )
    const appended = await Promise.all(appends)
    const [first] = processes as [LogProcess]
    for (const process of processes) {
      await process.until('all arrived', () => process.entries.length === appended.length)
      assert.deepEqual(ids(process), ids(first))
    }
    assert.deepEqual(new Set(ids(first)), new Set(appended))
    const sorted = [...ids(first)].sort((a, b) => first.log.compare(a, b))
    assert.deepEqual(ids(first), sorted)
  },

  'a process that starts later gets the existing entries first': async (_, open) => {
    const early = await open()
    await early.opened
    const frames = Array.from({ length: 1234 }, (_, index) => `${index}`)
    await Promise.all(frames.map(frame => append(early, frame)))
    await early.has(frames)
    const late = await open()
    await late.opened
    assert.deepEqual(late.window, early.window)
    await append(early, 'live')
    await late.has([...frames, 'live'])
  },

  'the barrier is the last id of the log, whichever process appended it': async (_, open) => {
    const [writer, reader] = [await open(), await open()]
    await Promise.all([writer.opened, reader.opened])
    let marks = 0
    for (let index = 0; index < 20; index++) {
      const id = await append(writer, `${index}`)
      const barrier = await reader.log.barrier()
      if (barrier !== null && reader.log.compare(barrier, id) > 0) marks += 1
      else assert.equal(barrier, id)
    }
    // Whoever finds the log empty may store an entry for nobody, so that clients have a cursor.
    assert.ok(marks <= 2, `${marks} entries that nobody has appended`)
  },

  'an entry that is appended twice arrives once in every process': async (_, open) => {
    const [writer, other] = [await open(), await open()]
    await Promise.all([writer.opened, other.opened])
    const entry = { nonce: 'theSame1', target: '*', frame: 'once' }
    const first = await writer.log.append(entry)
    assert.equal(await writer.log.append(entry), first)
    await other.has(['once'])
    await other.log.append(entry)
    const twin = { nonce: 'theSame2', target: '*', frame: 'twin' }
    await Promise.all([writer.log.append(twin), writer.log.append(twin), other.log.append(twin)])
    await append(writer, 'last')
    const expected = ['once', 'twin', 'last']
    for (const process of [writer, other]) await process.has(expected)
    const late = await open()
    await late.opened
    assert.deepEqual(ids(late), ids(other))
    assert.deepEqual(ids(writer), ids(other))
    // A repetition may be stored without being delivered; the barrier must not wait for it.
    await writer.log.append(twin)
    await other.log.append(twin)
    for (const { log } of [writer, other, late]) assert.equal(await log.barrier(), ids(late)[2])
  },

  'closing one process does not affect the others': async (_, open) => {
    const [leaving, staying] = [await open(), await open()]
    await Promise.all([leaving.opened, staying.opened])
    await leaving.log.close()
    const { length } = leaving.window
    await append(staying, 'after')
    await staying.has(['after'])
    await pause(50)
    assert.equal(leaving.window.length, length)
  },
}
