/** The server processes: forked, stopped, killed and started anew. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { News, Order, ServerConfig } from './messages.js'

type Settled = News & { type: 'settled' }

export interface ProcessOptions {
  readonly file: string
  readonly config: ServerConfig
  readonly onSettled: (news: Settled) => void
  /** It has reported what must not happen, or ended by itself. */
  readonly onFailed: (error: string) => void
}

export class ServerProcess {
  readonly port: number
  readonly #child: ChildProcess
  /** What it was told to send and has not reported on. */
  readonly #unsettled = new Set<number>()
  readonly #over: Promise<void>
  #isToEnd = false

  static async start(options: ProcessOptions): Promise<ServerProcess> {
    const child = fork(options.file, [JSON.stringify(options.config)], { execArgv: [] })
    // It may be stopped, and would then never see that its driver has gone.
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
      } else if (news.type === 'failed') options.onFailed(news.error)
    })
    // What it reported before it was killed may still come until then.
    this.#over = Promise.all([once(child, 'exit'), once(child, 'disconnect')]).then(() => {
      for (const n of this.#unsettled) {
        options.onSettled({ type: 'settled', n, outcome: 'uncertain', wasRetried: false })
      }
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

  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  goOn(): void {
    this.#child.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    this.#isToEnd = true
    this.#child.kill('SIGKILL')
    await this.#over
  }

  /** Ends it as an app would; what it has in hand is settled first. */
  async drain(spread: number): Promise<void> {
    this.#isToEnd = true
    this.#tell({ type: 'drain', spread })
    await this.#over
  }

  #tell(order: Order): void {
    // One that is just being killed takes nothing any more.
    this.#child.send(order, () => {})
  }
}
