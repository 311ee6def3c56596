/**
 * Tabs of one browser and their server, without either. Each tab runs the client as it is built, with globals
 * of its own: locks, channel, clock, network. Nothing happens by itself: every message, timer and chunk of a
 * stream waits until the test lets it happen, in an order that the test chooses.
 */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { PoolEventSource, PoolEventSourceConstructor } from 'koa-sse-pool/client'
import type { PoolEventSourceOptions } from '../../src/client/options.js'
import { Server } from './server.js'

const URL_OF_STREAM = 'http://site.test/events'

/** What a tab can see of the world, in the order of the parameters of the built script. */
const GLOBALS = [
  'globalThis',
  'fetch',
  'BroadcastChannel',
  'EventSource',
  'navigator',
  'document',
  'setTimeout',
  'clearTimeout',
  'performance',
  'Date',
  'Math',
  'console',
] as const

type Globals = Record<(typeof GLOBALS)[number], unknown>

export type LoadClient = (globals: Globals) => PoolEventSourceConstructor

/** Builds the plain script from the source, as tsup does. */
export async function buildClient(edit = (text: string) => text): Promise<LoadClient> {
  // The bundler is tsup's own, so that there is no second version to keep.
  const { build } = createRequire(import.meta.resolve('tsup'))('esbuild') as {
    build(options: object): Promise<{ outputFiles: { text: string }[] }>
  }
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../../src/client/global.ts', import.meta.url))],
    bundle: true,
    format: 'iife',
    target: 'es2022',
    write: false,
  })
  const text = edit(outputFiles[0]?.text ?? '')
  const run = new Function(...GLOBALS, `${text}\nreturn globalThis.PoolEventSource`)
  return globals => run(...GLOBALS.map(name => globals[name]))
}

interface Timer {
  readonly due: number
  readonly run: () => void
}

/** Tasks of one source, which happen in their order. Those of different sources happen in any order. */
type Lane = (() => void)[]

export class Tab {
  readonly world: World
  readonly name: string
  /** Everything that the page saw: data of messages, and gaps. */
  readonly seen: ({ data: string; id: string } | { gap: string; id: string })[] = []
  readonly statuses: string[] = []
  readonly page = new EventTarget()
  readonly document = new EventTarget()
  readonly lanes = new Map<string, Lane>()
  readonly warnings: string[] = []
  source!: PoolEventSource
  /** The browser's own, if it has one. */
  EventSource: unknown
  /** No code of it runs: by the browser's decision, or in the page cache. */
  isFrozen = false
  isDead = false
  /** Its page has closed the stream, and lives on. */
  isClosed = false
  /** Frozen in the page cache. */
  isHidden = false
  /** How many entries had been sent when it was live for the first time: those after them are for it. */
  liveFrom = Number.POSITIVE_INFINITY
  readonly #timers = new Set<Timer>()

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
  }

  get isGone(): boolean {
    return this.isDead || this.isClosed
  }

  get isRunning(): boolean {
    return !this.isFrozen && !this.isDead
  }

  open(load: LoadClient, options: PoolEventSourceOptions): void {
    const { page, document, world } = this
    const globals = { addEventListener: page.addEventListener.bind(page) }
    const context: Globals = {
      globalThis: globals,
      fetch: (url: string, init: RequestInit) => world.server.fetch(this, url, init),
      BroadcastChannel: world.channelOf(this),
      EventSource: this.EventSource,
      navigator: { locks: world.locksOf(this) },
      document,
      setTimeout: (run: () => void, ms: number) => this.#startTimer(run, ms),
      clearTimeout: (timer: Timer) => this.#timers.delete(timer),
      performance: { now: () => world.now },
      Date: { now: () => world.now, parse: Date.parse },
      Math: Object.assign(Object.create(Math), { random: () => world.random() }),
      console: { warn: (text: string) => this.warnings.push(text) },
    }
    Object.assign(globals, { ...context, globalThis: globals, location: new URL(URL_OF_STREAM) })
    const Source = load(context)
    this.source = new Source(URL_OF_STREAM, options) as PoolEventSource
    const { source } = this
    source.onmessage = ({ data, lastEventId }) => this.seen.push({ data, id: lastEventId })
    source.addEventListener('sse.gap', ({ data, lastEventId }) => {
      this.seen.push({ gap: JSON.parse(data).reason, id: lastEventId })
    })
    source.addEventListener('status', ({ status }) => this.statuses.push(status))
    for (const type of ['status', 'message', 'sse.cursor']) {
      source.addEventListener(type, () => {
        if (source.readyState === 1 && source.lastEventId !== '') {
          this.liveFrom = Math.min(this.liveFrom, world.server.sent.length)
        }
      })
    }
  }

  /** Something that will happen to this tab. */
  later(lane: string, run: () => void): void {
    const tasks = this.lanes.get(lane) ?? []
    this.lanes.set(lane, tasks)
    tasks.push(run)
  }

  ripen(): void {
    const due = [...this.#timers].filter(timer => timer.due <= this.world.now)
    for (const timer of due.sort((a, b) => a.due - b.due)) {
      // Still wanted when it runs: an earlier one may clear it.
      this.later('timers', () => {
        if (this.#timers.delete(timer)) timer.run()
      })
    }
  }

  get nextTimer(): number {
    return Math.min(...[...this.#timers].map(({ due }) => due))
  }

  #startTimer(run: () => void, ms: number): Timer {
    const timer = { due: this.world.now + ms, run }
    this.#timers.add(timer)
    return timer
  }
}

interface Lock {
  holder: LockRequest | undefined
  queue: LockRequest[]
}

interface LockRequest {
  readonly tab: Tab
  readonly grant: () => Promise<void>
  readonly reject: (error: Error) => void
}

export class World {
  /** In milliseconds. */
  now = 1_000_000
  readonly tabs: Tab[] = []
  readonly server = new Server()
  readonly #channels: { tab: Tab; name: string; channel: { onmessage: unknown } }[] = []
  readonly #locks = new Map<string, Lock>()
  readonly #load: LoadClient
  #seed = 1

  constructor(load: LoadClient) {
    this.#load = load
  }

  get running(): Tab[] {
    return this.tabs.filter(({ isRunning }) => isRunning)
  }

  random(): number {
    this.#seed = (this.#seed * 48_271) % 2_147_483_647
    return this.#seed / 2_147_483_647
  }

  openTab(options: PoolEventSourceOptions = { share: true }, EventSource?: unknown): Tab {
    const tab = new Tab(this, `tab ${this.tabs.length}`)
    tab.EventSource = EventSource
    this.tabs.push(tab)
    tab.open(this.#load, options)
    return tab
  }

  /** The process of the tab dies: no code of it runs any more, and the browser frees what it held. */
  crash(tab: Tab): void {
    tab.isDead = true
    this.server.forget(tab)
    for (const [name, lock] of this.#locks) {
      lock.queue = lock.queue.filter(request => request.tab !== tab)
      if (lock.holder?.tab === tab) this.#pass(name)
    }
  }

  freeze(tab: Tab): void {
    tab.isFrozen = true
  }

  thaw(tab: Tab): void {
    tab.isFrozen = false
    tab.ripen()
  }

  /** The page goes into the page cache, after it has been told. */
  async hide(tab: Tab): Promise<void> {
    tab.page.dispatchEvent(new Event('pagehide'))
    await settle()
    tab.isFrozen = true
    tab.isHidden = true
  }

  async show(tab: Tab): Promise<void> {
    this.thaw(tab)
    tab.isHidden = false
    tab.page.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }))
    await settle()
  }

  /** Lets one of the things happen that can. Returns false if there is none. */
  async step(choice: number): Promise<boolean> {
    const ready = this.running.flatMap(tab =>
      [...tab.lanes.values()].filter(lane => lane.length > 0),
    )
    const lane = ready[choice % ready.length]
    if (lane === undefined) return false
    lane.shift()?.()
    await settle()
    return true
  }

  /** Lets everything happen that can, without any time passing. */
  async run(): Promise<void> {
    await settle()
    for (let n = 0; await this.step(n * 7); n++) {
      if (n > 5000) throw new Error('it never comes to rest')
    }
  }

  async pass(ms: number): Promise<void> {
    const end = this.now + ms
    for (let n = 0; ; n++) {
      if (n > 2000) throw new Error('timers start timers without end')
      await this.run()
      const next = Math.min(...this.running.map(({ nextTimer }) => nextTimer))
      if (next > end) break
      this.now = Math.max(this.now, next)
      for (const tab of this.running) tab.ripen()
    }
    this.now = end
  }

  channelOf(tab: Tab) {
    const channels = this.#channels
    return class {
      onmessage: ((event: { data: unknown }) => void) | null = null
      readonly #entry
      constructor(name: string) {
        this.#entry = { tab, name, channel: this }
        channels.push(this.#entry)
      }
      postMessage(message: unknown): void {
        const data = structuredClone(message)
        for (const { tab: other, name, channel } of channels) {
          if (channel === this || name !== this.#entry.name) continue
          other.later(`from ${tab.name}`, () => {
            const isOpen = channels.some(entry => entry.channel === channel)
            if (isOpen) (channel as this).onmessage?.({ data })
          })
        }
      }
      close(): void {
        channels.splice(channels.indexOf(this.#entry), 1)
      }
    }
  }

  locksOf(tab: Tab) {
    return {
      request: (
        name: string,
        { steal, signal }: { steal?: boolean; signal?: AbortSignal },
        run: () => Promise<void>,
      ) =>
        new Promise<void>((resolve, reject) => {
          const lock = this.#locks.get(name) ?? { holder: undefined, queue: [] }
          this.#locks.set(name, lock)
          const request: LockRequest = {
            tab,
            reject: error => tab.later('locks', () => reject(error)),
            grant: async () => {
              await run()
              resolve()
            },
          }
          signal?.addEventListener('abort', () => {
            if (!lock.queue.includes(request)) return
            lock.queue = lock.queue.filter(other => other !== request)
            reject(signal.reason)
          })
          if (steal) {
            lock.holder?.reject(new DOMException('stolen', 'AbortError'))
            lock.holder = undefined
            lock.queue.unshift(request)
          } else lock.queue.push(request)
          if (lock.holder === undefined) this.#pass(name)
        }),
    }
  }

  /** Gives the lock to the next one that waits for it. */
  #pass(name: string): void {
    const lock = this.#locks.get(name) as Lock
    const next = lock.queue.shift()
    lock.holder = next
    next?.tab.later('locks', () => {
      void next.grant().then(() => {
        if (lock.holder === next) this.#pass(name)
      })
    })
  }
}

/** Lets promises settle: streams of promises need many turns of the microtask queue, never a timer. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
