/**
 * A run consists of rounds in which everything goes wrong at once. After each round it is quiet, and
 * all clients must catch up with everything that was acknowledged.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { betterSqlite } from '../setup/needs.js'
import { buildServer } from './build.js'
import { ChaosClient, type ClientFigures } from './client.js'
import { startEngine } from './engines/index.js'
import { lanesOf } from './faults.js'
import { Fleet } from './fleet.js'
import type { Send } from './history.js'
import type { EngineName, News } from './messages.js'
import { Model, Violation } from './model.js'
import { type PresenceFigures, PresenceTraffic } from './presence.js'
import type { ServerProcess } from './processes.js'
import { Random } from './random.js'
import { type RunFigures, RunTraffic } from './runs.js'
import type { Scene } from './scene.js'
import { planRound } from './schedule.js'
import { CHANNELS, Traffic } from './traffic.js'

export interface ChaosOptions {
  readonly engine: EngineName
  readonly seed: number
  /** The run ends after this many rounds or seconds. */
  readonly rounds?: number
  readonly seconds?: number
  readonly clients?: number
  readonly processes?: number
  /** How many entries each process keeps. */
  readonly window?: number
  /** Only these faults. */
  readonly faults?: readonly string[] | undefined
  /** A bug to put into the servers. */
  readonly mutant?: string | undefined
  readonly print?: (line: string) => void
}

export interface Report extends ClientFigures {
  readonly seed: number
  readonly engine: EngineName
  readonly rounds: number
  readonly clients: number
  readonly sends: Record<string, number>
  readonly faults: Record<string, number>
  /** Not on NATS, which stores no runs. */
  readonly runs: RunFigures | undefined
  readonly presence: PresenceFigures | undefined
}

/** Entries in the window of each process. */
const WINDOW = 600
/** How many times as many entries the log keeps. */
const LOG = 10

const CLIENTS = 200
/** With more clients than this many times the initial number, the oldest leave for good. */
const MAX_CLIENTS = 1.25

/** How long an engine, a process or a client may take to recover, in ms. */
const RECOVERY_TIMEOUT_MS = 120_000

/** @throws Violation with the seed and what a client got or did not get. */
export async function runChaos(options: ChaosOptions): Promise<Report> {
  const { seed, engine, mutant, window = WINDOW } = options
  const model = new Model(engine, window)
  const program = await buildServer(mutant)
  const chaos = new Chaos(options, model)
  try {
    return await Promise.race([chaos.run(program.file), model.broken])
  } catch (error) {
    const { message } = error as Error
    throw new Violation(`seed ${seed}, ${engine}: ${message}\n${chaos.summary}`, { cause: error })
  } finally {
    await chaos.stop()
    await program.remove()
  }
}

class Chaos {
  readonly #options: ChaosOptions
  readonly #model: Model
  /** Draws what happens, so that a seed repeats it. */
  readonly #plan: Random
  /** Draws what is sent and when clients return. */
  readonly #chance: Random
  readonly #figures: ClientFigures = { deliveries: 0, reconnects: 0, gaps: {} }
  readonly #faults: Record<string, number> = {}
  readonly #clients: ChaosClient[] = []
  /** The faults of this round so far. */
  #happened: string[] = []
  readonly #checks = new Set<() => void>()
  readonly #deadlines = new Set<NodeJS.Timeout>()
  readonly #ends: (() => Promise<void>)[] = []
  #fleet: Fleet | undefined
  #runs: RunTraffic | undefined
  #presence: PresenceTraffic | undefined
  /** Resolves when the faults of this round are over. Until then they may start processes to be ended. */
  #happening: Promise<unknown> = Promise.resolve()
  #rounds = 0
  #joined = 0
  #isOver = false

  constructor(options: ChaosOptions, model: Model) {
    this.#options = options
    this.#model = model
    this.#plan = new Random(options.seed)
    this.#chance = new Random(~options.seed)
  }

  async run(file: string): Promise<Report> {
    const scene = await this.#open(file)
    const { rounds = Infinity, seconds = Infinity, print = () => {} } = this.#options
    const start = performance.now()
    while (this.#rounds < rounds && performance.now() - start < seconds * 1000) {
      this.#rounds += 1
      await this.#round(scene)
      const time = Math.round((performance.now() - start) / 1000)
      print(`${time} s, ${this.summary}`)
    }
    return this.#report
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close()
    this.#isOver = true
    await this.#happening.catch(() => {})
    for (const timer of this.#deadlines) clearTimeout(timer)
    for (const end of this.#ends.reverse()) await end()
  }

  get summary(): string {
    const { deliveries, reconnects, gaps, sends } = this.#report
    const list = (counts: object) =>
      Object.entries(counts)
        .map(([name, count]) => `${count} ${name}`)
        .join(', ') || 'none'
    return (
      `round ${this.#rounds}: ${this.#happened.join(' ')}; ${deliveries} deliveries, ` +
      `${reconnects} reconnects, gaps: ${list(gaps)}, sends: ${list(sends)}`
    )
  }

  get #report(): Report {
    const { seed, engine } = this.#options
    return {
      ...{ seed, engine, rounds: this.#rounds, clients: this.#clients.length },
      ...this.#figures,
      sends: { ...this.#model.outcomes },
      faults: { ...this.#faults },
      runs: this.#runs?.figures,
      presence: this.#presence?.figures,
    }
  }

  async #open(file: string): Promise<Omit<Scene, 'random'>> {
    const { processes = 3, clients = CLIENTS, window = WINDOW } = this.#options
    const model = this.#model
    const engine = await startEngine(this.#options.engine)
    this.#ends.push(() => engine.stop())
    const config = {
      ...{ engine: engine.name, address: engine.address },
      ...{ window, maxEntries: LOG * window, betterSqlite: betterSqlite.folder },
    }
    const onSettled = () => this.#told()
    const onRun = (news: News & { type: 'run' }) => this.#runs?.told(news)
    const fleet = await Fleet.start(processes, { file, config, model, onSettled, onRun })
    this.#ends.push(() => fleet.stop())
    this.#fleet = fleet
    const traffic = new Traffic({
      ...{ model, random: this.#chance, processes: () => fleet.processes },
      transacts: engine.hasTransactions,
      names: () => this.#clients.map(({ ledger }) => ledger.name),
    })
    this.#ends.push(async () => traffic.stop())
    const presence = new PresenceTraffic({
      ...{ model, random: this.#chance, processes: () => fleet.processes },
    })
    this.#presence = presence
    this.#ends.push(async () => presence.close())
    if (engine.hasRuns) {
      const runs = new RunTraffic({
        ...{ model, random: this.#chance, processes: () => fleet.processes },
        onTold: () => this.#told(),
      })
      this.#runs = runs
      this.#ends.push(async () => runs.close())
    }
    this.#addClients(clients)
    await this.#until('all clients have a cursor', () =>
      model.ledgers.every(ledger => ledger.hasReached({ major: 0, minor: 0 })),
    )
    return {
      ...{ engine, fleet, model, traffic, window },
      clients: this.#clients,
      addClients: count => this.#addClients(count),
    }
  }

  #addClients(count: number): void {
    for (let i = 0; i < count; i++) {
      const channels = this.#chance.some(CHANNELS, 2)
      const client = new ChaosClient({
        ledger: this.#model.join(`client${this.#joined++}`, channels),
        random: this.#chance,
        pickPort: () => this.#chance.pick((this.#fleet as Fleet).processes).port,
        figures: this.#figures,
        onTold: () => this.#told(),
      })
      this.#clients.push(client)
      client.connect()
    }
    while (this.#clients.length > MAX_CLIENTS * (this.#options.clients ?? CLIENTS)) {
      const leaver = this.#clients.shift() as ChaosClient
      leaver.close()
      this.#model.leave(leaver.ledger)
    }
  }

  /** Runs some faults of each lane one after the other, and all lanes at the same time. */
  async #round(scene: Omit<Scene, 'random'>): Promise<void> {
    const lanes = lanesOf(scene.engine)
    const plan = planRound(this.#plan, lanes, this.#options.faults)
    this.#happened = []
    scene.traffic.start()
    this.#runs?.start()
    this.#presence?.start()
    this.#happening = Promise.all(
      plan.lanes.map(async (steps, index) => {
        for (const { name, after, seed } of steps) {
          await pause(after)
          if (this.#isOver) return
          this.#happened.push(name)
          this.#faults[name] = (this.#faults[name] ?? 0) + 1
          await lanes[index]?.[name]?.({ ...scene, random: new Random(seed) })
        }
      }),
    )
    await this.#happening
    await pause(plan.rest)
    scene.traffic.stop()
    this.#runs?.stop()
    this.#presence?.stop()
    await this.#settle(scene)
    this.#runs?.check()
    await this.#presence?.settle()
    this.#model.check()
    // A violation that the check has found rejects first.
    await Promise.race([this.#model.broken, pause(0)])
  }

  /** Waits until every outcome is known and every client has caught up with the log. */
  async #settle({ traffic, fleet, model }: Omit<Scene, 'random'>): Promise<void> {
    await this.#until('every outcome is known', () =>
      [...model.sends.values()].every(({ state }) => state !== 'pending'),
    )
    await this.#until('all runs are over', () => this.#runs?.isOver ?? true)
    for (const client of this.#clients) client.connect()
    const fences = await Promise.all(fleet.processes.map(process => this.#fence(traffic, process)))
    const behind = () =>
      model.ledgers.filter(ledger => !fences.every(fence => ledger.hasGot(fence)))
    await this.#until(
      'all clients have caught up',
      () => behind().length === 0,
      () => behind()[0]?.history ?? '',
    )
  }

  async #fence(traffic: Traffic, process: ServerProcess): Promise<Send> {
    const deadline = performance.now() + RECOVERY_TIMEOUT_MS
    while (performance.now() < deadline) {
      const fence = traffic.fence(process)
      await this.#until('a last event is settled', () => fence.state !== 'pending')
      if (fence.place !== undefined) return fence
      await pause(100)
    }
    throw new Violation('A process has not reconnected to the engine')
  }

  /** Resolves as soon as the condition holds; it is checked after each report to the driver. */
  #until(what: string, condition: () => boolean, details = () => ''): Promise<void> {
    return new Promise((resolve, reject) => {
      // After the end of the run, pending steps must stay pending and do nothing more.
      if (this.#isOver) return
      const timer = setTimeout(() => {
        this.#checks.delete(check)
        reject(new Violation(`Not within ${RECOVERY_TIMEOUT_MS} ms: ${what} ${details()}`))
      }, RECOVERY_TIMEOUT_MS)
      this.#deadlines.add(timer)
      const check = () => {
        if (!condition()) return
        clearTimeout(timer)
        this.#deadlines.delete(timer)
        this.#checks.delete(check)
        resolve()
      }
      this.#checks.add(check)
      check()
    })
  }

  #told(): void {
    for (const check of this.#checks) check()
  }
}
