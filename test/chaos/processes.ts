/** A server process that can be paused, killed and drained. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { limitFiles } from '../helpers/full.js'
import type { News, Order, Part, ServerConfig } from './messages.js'

type Settled = News & { type: 'settled' }
type RunNews = News & { type: 'run' }

export interface ProcessOptions {
  readonly file: string
  readonly config: ServerConfig
  readonly onSettled: (news: Settled) => void
  readonly onRun: (news: RunNews) => void
  /** Called when the process reports something that must not happen, or ends by itself. */
  readonly onFailed: (error: string) => void
}

export class ServerProcess {
  readonly port: number
  readonly #child: ChildProcess
  /** Sends that it was told to make and has not reported on. */
  readonly #unsettled = new Set<number>()
  /** Called once the transaction with this event is open, or over. */
  readonly #holding = new Map<number, () => void>()
  /** Runs that it was told to start and has not reported on. */
  readonly #unbegun = new Set<string>()
  readonly #over: Promise<void>
  #isToEnd = false

  static async start(options: ProcessOptions): Promise<ServerProcess> {
    const child = fork(options.file, [JSON.stringify(options.config)], { execArgv: [] })
    // A stopped process would never notice that its driver has gone.
    const end = () => child.kill('SIGKILL')
    process.once('exit', end)
    child.once('exit', () => process.off('exit', end))
    const [news] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => [{ type: 'failed', error: `exit code ${code}` }]),
    ])) as [News]
    if (news.type !== 'listening')
      throw new Error(`A server did not start: ${JSON.stringify(news)}`)
    return new ServerProcess(child, news.port, options)
  }

  private constructor(child: ChildProcess, port: number, options: ProcessOptions) {
    this.port = port
    this.#child = child
    child.on('message', (news: News) => {
      if (news.type === 'settled') {
        this.#unsettled.delete(news.n)
        options.onSettled(news)
        this.#holds(news.n)
      } else if (news.type === 'holding') {
        this.#holds(news.n)
      } else if (news.type === 'run') {
        this.#unbegun.delete(news.id)
        options.onRun(news)
      } else if (news.type === 'failed') options.onFailed(news.error)
    })
    // Until then, reports from before it was killed may still arrive.
    this.#over = Promise.all([once(child, 'exit'), once(child, 'disconnect')]).then(() => {
      for (const n of this.#unsettled) {
        options.onSettled({ type: 'settled', n, outcome: 'uncertain', wasRetried: false })
        this.#holds(n)
      }
      for (const id of this.#unbegun) options.onRun({ type: 'run', id, what: 'failed', count: 0 })
      if (!this.#isToEnd) options.onFailed(`a server has ended with code ${child.exitCode}`)
    })
  }

  get canPublish(): boolean {
    return !this.#isToEnd
  }

  publish(order: Order & { type: 'publish' }): void {
    this.#unsettled.add(order.data.n)
    this.#tell(order)
  }

  /** Resolves once the transaction is open, or over. */
  transact(order: Order & { type: 'transact' | 'deadlock' }): Promise<void> {
    for (const { data } of order.events) this.#unsettled.add(data.n)
    const [{ data }] = order.events as [Part]
    return new Promise(resolve => {
      this.#holding.set(data.n, resolve)
      this.#tell(order)
    })
  }

  order(order: Order & { type: 'run' | 'stop run' }): void {
    if (order.type === 'run') this.#unbegun.add(order.id)
    this.#tell(order)
  }

  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  /** Lets its writes to files beyond so many bytes fail. */
  async limitFiles(bytes: number | 'unlimited'): Promise<void> {
    try {
      await limitFiles(this.#child.pid as number, bytes)
    } catch (error) {
      // It was ended meanwhile.
      if (!this.#isToEnd) throw error
    }
  }

  async kill(): Promise<void> {
    this.#isToEnd = true
    this.#child.kill('SIGKILL')
    await this.#over
  }

  /** Ends it as an app would, after its pending sends are settled. */
  async drain(spread: number): Promise<void> {
    this.#isToEnd = true
    this.#tell({ type: 'drain', spread })
    await this.#over
  }

  #holds(n: number): void {
    this.#holding.get(n)?.()
    this.#holding.delete(n)
  }

  #tell(order: Order): void {
    // A process that is being killed accepts no more messages; the callback swallows that error.
    this.#child.send(order, () => {})
  }
}
