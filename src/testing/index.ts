/**
 * What every engine must do, as tests for any runner:
 *
 * ```js
 * import { test } from 'node:test'
 * import { eventLogSuite } from 'koa-sse-pool/testing'
 *
 * eventLogSuite({ test, create: async () => ({ open: () => myLog(...), close: async () => {} }) })
 * ```
 */
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { EventLog } from '../log/log.js'
import { faultTests } from './faults.js'
import { append, ids, type LogProcess, start, type TestPlan } from './process.js'

export type { EventLog } from '../log/log.js'

/** One log, fresh and empty, for one test. */
export interface SharedLog {
  /** The log as a further process has it; it is opened and closed by the suite. */
  open(): EventLog
  /** Frees what `create` made; called after each test, when all logs are closed. */
  close(): Promise<void> | void
  /** Cuts the connections of all processes, once. */
  cut?(): Promise<void> | void
  /** Empties the engine, as if it had lost all data. */
  flush?(): Promise<void> | void
  /** Removes all entries and keeps the log itself. */
  trim?(): Promise<void> | void
  /** Ends the engine; `start` brings it back, with its data or without. */
  stop?(): Promise<void> | void
  start?(): Promise<void> | void
}

/** Faults that can be brought about, by the method of {@link SharedLog} that does. */
export type LogFault = 'cut' | 'flush' | 'trim' | 'stop'

export interface EventLogSuiteOptions {
  /** The runner's. A test with faults may take ten seconds; give it thirty. */
  test: (name: string, run: () => Promise<void>) => unknown
  create: () => Promise<SharedLog> | SharedLog
  /** Tests with these faults are run too; `create` must return their methods. Default: none. */
  faults?: readonly LogFault[] | undefined
  /** A log of one process, which cannot fail: nothing is shared or sent twice. Default `false`. */
  local?: boolean | undefined
}

/** Declares the tests, by calling `test` for each. */
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
  'an empty log has a cursor from the first moment': async (_, open) => {
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

  'entries arrive in the order in which they were appended, each once': async (_, open) => {
    const process = await open()
    await process.opened
    const frames = Array.from({ length: 2000 }, (_, index) => `${index}`)
    const appended = await Promise.all(frames.map(frame => append(process, frame)))
    await process.has(frames)
    assert.deepEqual(ids(process), appended)
  },

  'ids are in order, and what is no id compares as NaN': async (_, open) => {
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

  'targets, keys and frames arrive as they were': async (_, open) => {
    const process = await open()
    await process.opened
    const unicode = allOfUnicode()
    const entries = [
      { target: '*', frame: 'data: a\ndata: b\n\n' },
      { target: '@ada\nbob', frame: unicode, key: unicode },
      { target: '#\u{1F600} \t"\'\\', frame: '\r\n\0 ', key: '' },
      { target: '-__proto__', frame: '', key: '__proto__' },
    ]
    const sent = entries.map((entry, index) => ({ ...entry, nonce: `asItWas${index}` }))
    for (const entry of sent) await process.log.append(entry)
    await process.until('all arrived', () => process.entries.length === sent.length)
    const arrived = process.entries.map(({ id: _, ...entry }) => entry)
    assert.deepEqual(arrived, sent)
  },

  'large frames arrive whole': async (_, open) => {
    const process = await open()
    await process.opened
    const frames = ['a', 'ä', '\u{1F600}'].map(text => text.repeat(1024 * 1024))
    await Promise.all(frames.map(frame => append(process, frame)))
    await process.until('all arrived', () => process.entries.length === frames.length)
    assert.ok(process.entries.every(({ frame }, index) => frame === frames[index]))
  },

  'closing ends the feed and refuses appends, and may be done twice': async (_, open) => {
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

  'a process that comes later starts with what is there': async (_, open) => {
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

  'the barrier is what the log has got, wherever it was appended': async (_, open) => {
    const [writer, reader] = [await open(), await open()]
    await Promise.all([writer.opened, reader.opened])
    for (let index = 0; index < 20; index++) {
      const id = await append(writer, `${index}`)
      assert.equal(await reader.log.barrier(), id)
    }
  },

  'an entry that is appended again is there once, for all': async (_, open) => {
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
    // A stored repetition that nobody is given must not keep anybody waiting.
    await writer.log.append(twin)
    await other.log.append(twin)
    for (const { log } of [writer, other, late]) assert.equal(await log.barrier(), ids(late)[2])
  },

  'closing one process leaves the others alone': async (_, open) => {
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

/** Every code point that can stand alone, in one string of 1 to 4 bytes each. */
function allOfUnicode(): string {
  const some: number[] = []
  for (let point = 0; point <= 0xffff; point++) {
    if (point < 0xd800 || point > 0xdfff) some.push(point)
  }
  for (let point = 0x10000; point <= 0x10ffff; point += 97) some.push(point)
  return some.map(point => String.fromCodePoint(point)).join('')
}
