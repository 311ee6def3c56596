/** Workers of a real `node:cluster` with the test as its primary, and proxies of the logs in them. */
import assert from 'node:assert/strict'
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ClusterLogOptions, clusterLog } from 'koa-sse-pool/cluster'
import { build } from 'tsup'
import type { Entry, EventLog, LogSink } from '../../src/log/log.js'

export interface Call {
  type: 'call'
  number: number
  log: number
  what:
    | { name: 'make'; options: ClusterLogOptions }
    | { name: 'append'; entry: Omit<Entry, 'id'> }
    | { name: 'open' | 'barrier' | 'close' }
}

export type Report =
  | { type: 'ready' }
  | { type: 'told'; log: number; what: keyof LogSink; args: unknown[] }
  | {
      type: 'result'
      number: number
      value?: unknown
      error?: { message: string; code?: string | undefined }
    }

/** Builds one of the helpers into a program that plain Node can run. */
export async function program(name: string): Promise<{ file: string; remove(): Promise<void> }> {
  const outDir = await mkdtemp(join(tmpdir(), 'koa-sse-pool-'))
  await build({
    entry: { [name]: fileURLToPath(new URL(`${name}.ts`, import.meta.url)) },
    ...{ outDir, format: 'esm', target: 'node20', config: false, silent: true },
    outExtension: () => ({ js: '.mjs' }),
  })
  return {
    file: join(outDir, `${name}.mjs`),
    remove: () => rm(outDir, { recursive: true }),
  }
}

let logs = 0
let names = 0

/** A log name that is not in use. */
export function newName(): string {
  names += 1
  return `log ${names}`
}

export class ClusterWorker {
  readonly worker: Worker
  readonly #sinks = new Map<number, LogSink>()
  readonly #calls = new Map<number, (result: Report & { type: 'result' }) => void>()
  #number = 0

  private constructor(worker: Worker) {
    this.worker = worker
    worker.on('message', (report: Report) => {
      if (report.type === 'told') {
        const told = this.#sinks.get(report.log)?.[report.what] as (...args: unknown[]) => void
        told(...report.args)
      } else if (report.type === 'result') {
        this.#calls.get(report.number)?.(report)
        this.#calls.delete(report.number)
      }
    })
    worker.once('exit', () => {
      const error = { message: 'The worker is gone' }
      for (const [number, settle] of this.#calls) settle({ type: 'result', number, error })
    })
  }

  static async fork(
    exec: string,
    serialization: 'json' | 'advanced' = 'json',
  ): Promise<ClusterWorker> {
    cluster.setupPrimary({ exec, execArgv: [], serialization })
    const worker = cluster.fork()
    const [report] = await once(worker, 'message')
    // Messages that are sent before the worker listens would be lost.
    assert.deepEqual(report, { type: 'ready' } satisfies Report)
    return new ClusterWorker(worker)
  }

  /**
   * A log in the worker.
   * @param isEarly The primary has no log of that name yet, so `compare` is not available.
   */
  log(options: ClusterLogOptions, { isEarly = false } = {}): EventLog {
    logs += 1
    const log = logs
    const made = this.#call(log, { name: 'make', options })
    made.catch(() => {})
    let isClosed = false
    const call = async (what: Call['what']) => {
      await made
      return this.#call(log, what)
    }
    // `compare` is synchronous, so it needs a log in this process.
    const twin = isEarly ? undefined : clusterLog(options)
    const twinOpened = twin?.open({ reset() {}, append() {}, state() {}, error() {} })
    return {
      open: async sink => {
        this.#sinks.set(log, {
          reset: (...args) => isClosed || sink.reset(...args),
          append: (...args) => isClosed || sink.append(...args),
          state: up => sink.state(up),
          error: error => sink.error?.(error),
        })
        await twinOpened
        await call({ name: 'open' })
      },
      append: async entry => (await call({ name: 'append', entry })) as string,
      barrier: async () => (await call({ name: 'barrier' })) as string,
      compare: (a, b) => twin?.compare(a, b) ?? Number.NaN,
      close: async () => {
        await call({ name: 'close' })
        await twin?.close()
        isClosed = true
      },
    }
  }

  async kill(): Promise<void> {
    if (this.worker.isDead()) return
    const exited = once(this.worker, 'exit')
    this.worker.process.kill('SIGKILL')
    await exited
  }

  #call(log: number, what: Call['what']): Promise<unknown> {
    this.#number += 1
    const number = this.#number
    return new Promise((resolve, reject) => {
      this.#calls.set(number, ({ value, error }) => {
        if (error) reject(Object.assign(new Error(error.message), { code: error.code }))
        else resolve(value)
      })
      this.worker.send({ type: 'call', number, log, what } satisfies Call)
    })
  }
}
