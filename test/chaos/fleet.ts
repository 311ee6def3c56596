/** The server processes. One that was ended is replaced, so their number stays the same. */
import type { News, ServerConfig } from './messages.js'
import type { Model } from './model.js'
import { ServerProcess } from './processes.js'

export interface FleetOptions {
  readonly file: string
  readonly config: ServerConfig
  readonly model: Model
  readonly onSettled: () => void
  readonly onRun: (news: News & { type: 'run' }) => void
}

export class Fleet {
  readonly #options: FleetOptions
  #processes: ServerProcess[] = []

  static async start(count: number, options: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(options)
    fleet.#processes = await Promise.all(Array.from({ length: count }, () => fleet.#start()))
    return fleet
  }

  private constructor(options: FleetOptions) {
    this.#options = options
  }

  /** The processes that take orders. */
  get processes(): readonly ServerProcess[] {
    return this.#processes
  }

  /** Ends a process, then starts another in its place. Does nothing if it was replaced already. */
  async replace(process: ServerProcess, end: () => Promise<void>): Promise<void> {
    if (!this.#processes.includes(process)) return
    this.#processes = this.#processes.filter(other => other !== process)
    await end()
    const started = await this.#start()
    // Not in one line with the start: two replacements at once would bring back each other's ended process.
    this.#processes = [...this.#processes, started]
  }

  async stop(): Promise<void> {
    await Promise.all(this.#processes.map(process => process.kill()))
  }

  #start(): Promise<ServerProcess> {
    const { model, onSettled } = this.#options
    return ServerProcess.start({
      ...this.#options,
      onSettled(news) {
        model.settle(news)
        onSettled()
      },
      onFailed: error => model.violate(`A server process: ${error}`),
    })
  }
}
