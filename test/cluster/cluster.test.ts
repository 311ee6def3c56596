import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { clusterLog } from 'koa-sse-pool/cluster'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { append, type LogProcess, start } from '../../src/testing/process.js'
import { ClusterWorker, newName, program } from '../helpers/cluster.js'

type Program = Awaited<ReturnType<typeof program>>

describe('the options of clusterLog()', () => {
  it.each([
    [null, 'clusterLog(): options must be an object; got null'],
    [{ nam: 'a' }, 'clusterLog(): unknown option "nam"; did you mean "name"?'],
    [{ maxEntries: 5 }, 'clusterLog(): unknown option "maxEntries"; did you mean "events"?'],
    [{ name: 1 }, 'clusterLog(): option "name" must be a string; got 1 (number)'],
    [{ events: 0 }, 'clusterLog(): option "events" must be a whole number from 1 to'],
    [{ bytes: '1' }, 'clusterLog(): option "bytes" must be a whole number from 1 to'],
    [
      { timeout: 1e9 },
      'clusterLog(): option "timeout" must be milliseconds, a whole number from 1',
    ],
  ])('throw a TypeError if they are %j', (options, message) => {
    expect(() => clusterLog(options as object)).toThrow(TypeError)
    expect(() => clusterLog(options as object)).toThrow(message)
  })

  it('may be undefined, which is the same as absent', () => {
    clusterLog({ name: newName(), events: undefined, timeout: undefined })
  })
})

describe('the cluster log in one process', () => {
  it('can be opened once, and not after it was closed', async () => {
    const options = { name: newName() }
    const log = clusterLog(options)
    const sink = { reset() {}, append() {}, state() {}, error() {} }
    await log.open(sink)
    await expect(log.open(sink)).rejects.toThrow(TypeError)
    await log.close()
    const closed = clusterLog(options)
    await closed.close()
    await expect(closed.open(sink)).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    await expect(closed.barrier()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })

  it('keeps only the newest entries for logs that are opened later', async () => {
    const options = { name: newName(), events: 3, bytes: 1000 }
    const process = start(clusterLog(options))
    for (const frame of 'abcde') await append(process, frame)
    const late = start(clusterLog(options))
    await late.opened
    await late.has(['c', 'd', 'e'])
    await append(process, 'x'.repeat(700))
    const later = start(clusterLog(options))
    await later.opened
    await later.has(['d', 'e', 'x'.repeat(700)])
    await append(process, 'y'.repeat(2000))
    const last = start(clusterLog(options))
    await last.opened
    await last.has(['y'.repeat(2000)])
  })
})

describe('the cluster log in workers', () => {
  let worker: Program
  const workers: ClusterWorker[] = []
  const fork = async () => {
    const forked = await ClusterWorker.fork(worker.file)
    workers.push(forked)
    return forked
  }
  beforeAll(async () => {
    worker = await program('cluster-worker')
  })
  afterEach(async () => {
    await Promise.all(workers.splice(0).map(worker => worker.kill()))
  })
  afterAll(() => worker.remove())

  it('keeps logs with different names apart', async () => {
    const [first, second] = [await fork(), await fork()]
    const names = [newName(), newName()]
    const [one, other] = names.map(name => [first, second].map(at => start(at.log({ name }))))
    for (const [index, process] of (one as LogProcess[]).entries()) {
      await process.opened
      await append(process, `one ${index}`)
      await append((other as LogProcess[])[index] as LogProcess, `other ${index}`)
    }
    for (const process of one as LogProcess[]) await process.has(['one 0', 'one 1'])
    for (const process of other as LogProcess[]) await process.has(['other 0', 'other 1'])
  })

  it('loses no acknowledged entry when a worker is killed', async () => {
    const name = newName()
    const [killed, other] = [await fork(), await fork()]
    const writer = start(killed.log({ name }))
    const reader = start(other.log({ name }))
    await reader.opened
    const stored: string[] = []
    let isEnough = () => {}
    const enough = new Promise<void>(resolve => {
      isEnough = resolve
    })
    const appends = Array.from({ length: 5000 }, async (_, index) => {
      stored.push(await append(writer, `${index}`))
      if (stored.length === 1000) isEnough()
    })
    await enough
    await killed.kill()
    await Promise.allSettled(appends)
    const successor = start((await fork()).log({ name }))
    await successor.opened
    await append(successor, 'last')
    for (const process of [reader, successor]) {
      await process.until('last', () => process.entries.at(-1)?.frame === 'last')
      const known = process.entries.map(({ id }) => id)
      expect(new Set(known).size).toBe(known.length)
      expect(stored.filter(id => !known.includes(id))).toEqual([])
    }
    expect(successor.window).toEqual(reader.window)
    expect(successor.resets).toEqual(['boot'])
  })

  it('delivers a window of many messages as one reset', async () => {
    const name = newName()
    const writer = start(clusterLog({ name }))
    const frames = Array.from({ length: 5 }, (_, index) => `${index}`.repeat(700_000))
    await Promise.all(frames.map(frame => append(writer, frame)))
    const reader = start((await fork()).log({ name }))
    await reader.until('booted', () => reader.window.length > 0)
    expect(reader.entries.map(({ frame }) => frame)).toEqual(frames)
  })

  it('gives the window again to a worker that was stopped, and delays no other worker', async () => {
    const options = { name: newName(), events: 20 }
    const writer = start(clusterLog(options))
    const stopped = await fork()
    const reader = start(stopped.log(options))
    const other = start((await fork()).log(options))
    await Promise.all([reader.opened, other.opened])
    stopped.worker.process.kill('SIGSTOP')
    const frames: string[] = []
    for (let index = 0; index < 100; index++) {
      const frame = `${index}`.padEnd(500_000, '.')
      frames.push(frame)
      await append(writer, frame)
      // Only the stopped worker lags.
      await other.until('arrived', () => other.entries.at(-1)?.frame === frame)
    }
    stopped.worker.process.kill('SIGCONT')
    await reader.until('last', () => reader.entries.at(-1)?.frame === frames[99])
    expect(other.resets).toEqual(['boot'])
    expect(reader.resets).toEqual(['boot', 'trimmed'])
    expect(reader.entries.map(({ frame }) => frame)).toEqual(frames.slice(80))
  })

  it('waits for a primary that has not called clusterLog() yet, and reports that', async () => {
    const name = newName()
    const log = (await fork()).log({ name, timeout: 50 }, { isEarly: true })
    const errors: unknown[] = []
    let isDown = () => {}
    const down = new Promise<void>(resolve => {
      isDown = resolve
    })
    const resets: string[] = []
    const opened = log.open({
      reset: (_, reason) => resets.push(reason),
      append: () => {},
      state: isUp => isUp || isDown(),
      error: error => errors.push(error),
    })
    await down
    await expect(log.append({ nonce: 'a', target: '*', frame: '' })).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
    })
    clusterLog({ name })
    await opened
    expect(resets).toEqual(['boot'])
    await log.append({ nonce: 'b', target: '*', frame: '' })
    expect(errors).toHaveLength(1)
    expect(String(errors[0])).toContain('has it called clusterLog() with the same name?')
  })
})

describe('when the primary', () => {
  let app: Program
  const running: App[] = []
  const run = (timeout: number) => {
    const cluster = new App(app.file, timeout)
    running.push(cluster)
    return cluster
  }
  beforeAll(async () => {
    app = await program('cluster-app')
  })
  afterEach(async () => {
    await Promise.all(running.splice(0).map(cluster => cluster.end()))
  })
  afterAll(() => app.remove())

  it('is stopped, the log is down until the primary continues', async () => {
    const cluster = run(200)
    await cluster.says('boot')
    cluster.primary.kill('SIGSTOP')
    cluster.do('append')
    await cluster.says('sent 1', /does not answer/, 'down')
    await cluster.says('ERR_SSE_LOG_UNCERTAIN 1', 'ERR_SSE_LOG_DOWN 2')
    cluster.primary.kill('SIGCONT')
    await cluster.says('up')
    cluster.do('append')
    await cluster.says('stored 3')
    // The uncertain entry had been stored.
    expect(cluster.lines.filter(line => line.startsWith('got')).join()).toBe('got 1,got 3')
  })

  it('is stopped, appends that could not be sent are rejected and never stored', async () => {
    const cluster = run(200)
    await cluster.says('boot')
    cluster.primary.kill('SIGSTOP')
    cluster.do('append much')
    await cluster.says('ERR_SSE_LOG_UNCERTAIN 1', 'ERR_SSE_LOG_DOWN 2', 'ERR_SSE_LOG_DOWN 3')
    cluster.primary.kill('SIGCONT')
    await cluster.says('up')
    cluster.do('append')
    await cluster.says('stored 5')
    expect(cluster.lines.filter(line => line.startsWith('got')).join()).toBe('got 1,got 5')
  })

  it('is killed, the log is down for good', async () => {
    const cluster = run(3_600_000)
    await cluster.says('boot')
    cluster.primary.kill('SIGSTOP')
    cluster.do('append')
    await cluster.says('sent 1')
    cluster.primary.kill('SIGKILL')
    await cluster.says(/the primary is gone/, 'down')
    await cluster.says('ERR_SSE_LOG_UNCERTAIN 1', 'ERR_SSE_LOG_DOWN 2')
  })

  it('disconnects the worker, the log is down for good', async () => {
    const cluster = run(3_600_000)
    await cluster.says('boot')
    cluster.do('disconnect')
    await cluster.says(/disconnected this worker/, 'down', 'ERR_SSE_LOG_DOWN 1')
  })
})

class App {
  readonly primary: ChildProcessByStdio<Writable, Readable, null>
  readonly lines: string[] = []
  readonly #closed: Promise<unknown>
  #told = () => {}

  constructor(file: string, timeout: number) {
    this.primary = spawn(process.execPath, [file, `${timeout}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    // Emitted once the worker, which writes to the same pipe, has ended too.
    this.#closed = once(this.primary, 'close')
    createInterface(this.primary.stdout).on('line', line => {
      this.lines.push(line)
      this.#told()
    })
  }

  do(what: 'append' | 'append much' | 'disconnect'): void {
    this.primary.stdin.write(`${what}\n`)
  }

  async says(...expected: (string | RegExp)[]): Promise<void> {
    for (const line of expected) {
      while (!this.lines.some(said => (line instanceof RegExp ? line.test(said) : line === said))) {
        await new Promise<void>(resolve => {
          this.#told = resolve
        })
      }
    }
  }

  async end(): Promise<void> {
    this.primary.kill('SIGKILL')
    await this.#closed
  }
}
