/** One process of the suite: an open log, and everything that its sink has received. */
import assert from 'node:assert/strict'
import { nonceSource } from '../lib/random.js'
import type { Entry, EventLog, LogSink } from '../log/log.js'
import { Checks } from './checks.js'
import type { SharedLog } from './shared-log.js'

/** Tests by name; `open` starts one more process. */
export type TestPlan = Record<
  string,
  (shared: SharedLog, open: () => Promise<LogProcess>) => Promise<void>
>

export interface LogProcess {
  readonly log: EventLog
  readonly opened: Promise<void>
  /** What the window of a pool would hold if it kept everything. */
  readonly window: readonly Entry[]
  /** The window without the marks. */
  readonly entries: readonly Entry[]
  readonly resets: readonly string[]
  readonly isUp: boolean
  /** Resolves as soon as the condition holds; it is checked after each call of the sink. */
  until(what: string, condition: () => boolean): Promise<void>
  /** Waits for as many entries as there are frames, and asserts that they have these frames. */
  has(frames: readonly string[]): Promise<void>
}

export const nonce = nonceSource()

/** Appends an entry for everyone; resolves to its id. */
export function append({ log }: LogProcess, frame: string): Promise<string> {
  return log.append({ nonce: nonce(), target: '*', frame })
}

export function ids({ entries }: LogProcess): string[] {
  return entries.map(({ id }) => id)
}

export function start(log: EventLog): LogProcess {
  let window: Entry[] = []
  let isUp = true
  const resets: string[] = []
  const checks = new Checks()
  const sink: LogSink = {
    reset(entries, reason) {
      window = [...entries]
      resets.push(reason)
      checks.run()
    },
    append(entries) {
      window.push(...entries)
      checks.run()
    },
    state(up) {
      isUp = up
      checks.run()
    },
    error() {},
  }
  const state = () =>
    `${window.length} entries, resets: ${resets.join(', ')}, ${isUp ? 'up' : 'down'}`
  const until = (what: string, condition: () => boolean) =>
    checks.until(condition, () => `Never ${what}; there are ${state()}`)
  const opened = log.open(sink)
  opened.catch(() => {})
  const self: LogProcess = {
    log,
    opened,
    get window() {
      return window
    },
    get entries() {
      return window.filter(({ target }) => target !== '')
    },
    resets,
    get isUp() {
      return isUp
    },
    until,
    async has(frames) {
      await until(`${frames.length} entries`, () => self.entries.length >= frames.length)
      assert.deepEqual(
        self.entries.map(({ frame }) => frame),
        frames,
      )
    },
  }
  return self
}
