/**
 * The event stream of the page. It is one of a pool of its own, with a log in memory: in the inspected pool it would
 * count as a client and read every broadcast.
 */
import type { Middleware } from 'koa'
import { sse } from '../koa/middleware.js'
import type { Hub } from '../pool/hub.js'
import { ClientPool } from '../pool/pool.js'
import type { Responder } from './responder.js'
import type { Survey } from './survey.js'

const SAMPLE_MS = 1000

/** Each question to the other processes is an entry in the log, as is each answer, so they are asked rarely. */
const SAMPLES_PER_SURVEY = 5

export class Live {
  readonly #hub: Hub
  readonly #responder: Responder
  readonly #survey: Survey
  readonly #pool = new ClientPool({ maxClients: 100, window: { events: 1, bytes: 2 ** 20 } })
  #timer: NodeJS.Timeout | undefined
  #samples = 0
  #isAsking = false

  constructor(hub: Hub, responder: Responder, survey: Survey) {
    this.#hub = hub
    this.#responder = responder
    this.#survey = survey
    this.#pool.on('close', () => {
      if (this.#pool.stats().streams === 0) this.#stop()
    })
  }

  middleware(): Middleware {
    // Without ids: a page that reconnects needs the figures of now, and not those that it missed.
    const stream = sse({ pool: this.#pool, resume: false })
    return ctx =>
      stream(ctx, async () => {
        ctx.sse.send({ event: 'sample', data: this.#sample() })
        if (this.#timer === undefined) this.#start()
        void this.#tellProcesses()
      })
  }

  #start(): void {
    this.#samples = 0
    this.#timer = setInterval(() => this.#tick(), SAMPLE_MS).unref()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #tick(): void {
    // Otherwise the page would keep the server from closing after its pool.
    if (this.#hub.refusal() === 'draining') {
      this.#stop()
      void this.#pool.close()
      return
    }
    this.#samples += 1
    void this.#pool.broadcast({ event: 'sample', data: this.#sample(), volatile: true })
    if (this.#samples % SAMPLES_PER_SURVEY === 0) void this.#tellProcesses()
  }

  #sample() {
    return { at: Date.now(), id: this.#hub.processes.self, ...this.#responder.process() }
  }

  async #tellProcesses(): Promise<void> {
    if (this.#isAsking) return
    this.#isAsking = true
    try {
      const data = await this.#survey.processes()
      await this.#pool.broadcast({ event: 'processes', data, volatile: true })
    } catch {
      // Only a pool that has closed meanwhile refuses.
    } finally {
      this.#isAsking = false
    }
  }
}
