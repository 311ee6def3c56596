/** The faults, by name. Each resolves when the engine, the process or the clients have recovered. */
import { setTimeout as pause } from 'node:timers/promises'
import type { ChaosClient } from './client.js'
import type { Engine } from './engines.js'
import type { Fleet } from './fleet.js'
import type { Model } from './model.js'
import type { Random } from './random.js'
import type { Traffic } from './traffic.js'

export interface Scene {
  readonly engine: Engine
  readonly fleet: Fleet
  readonly model: Model
  readonly traffic: Traffic
  /** A generator for this fault alone, so that other faults do not change what it draws. */
  readonly random: Random
  readonly window: number
  readonly clients: readonly ChaosClient[]
  addClients(count: number): void
}

type Fault = (scene: Scene) => Promise<void>

/** Faults of the engine and its data. */
const engineFaults = {
  cut: async ({ engine }) => {
    await engine.cut()
  },
  crash: async ({ engine, random }) => {
    await engine.kill()
    await pause(random.whole(0, 1500))
    await engine.run()
  },
  freeze: async ({ engine, random }) => {
    engine.freeze()
    await pause(random.whole(500, 4500))
    engine.thaw()
  },
  empty: async ({ engine, model }) => {
    const loss = model.lose(true)
    await engine.empty()
    loss.over()
  },
  trim: async ({ engine, model }) => {
    const loss = model.lose(false)
    await engine.trim()
    loss.over()
  },
  wipe: async ({ engine, model }) => {
    const loss = model.lose(true)
    await engine.wipe()
    loss.over()
  },
} satisfies Record<string, Fault>

const processFaults = {
  kill: ({ fleet, random }) => fleet.replace(random, process => process.kill()),
  drain: ({ fleet, random }) =>
    fleet.replace(random, process => process.drain(random.whole(0, 1000))),
  stop: async ({ fleet, random }) => {
    const process = random.pick(fleet.processes)
    process.pause()
    await pause(random.whole(500, 4000))
    process.resume()
  },
} satisfies Record<string, Fault>

const clientFaults = {
  /** Some clients are cut off, half of them in the middle of an event. */
  part: async ({ clients, random }) => {
    for (const client of random.some(clients, Math.ceil(clients.length / 3))) {
      client.cut({ inMidEvent: random.chance(0.5) })
    }
  },
  /** Some clients are away while more is sent than the window holds. */
  leave: async ({ clients, random, traffic, window }) => {
    const away = random.some(clients, Math.ceil(clients.length / 10))
    for (const client of away) client.leave()
    traffic.burst(Math.ceil(window * 1.5))
    await pause(random.whole(500, 1500))
    for (const client of away) client.connect()
  },
  /** Some clients do not read what is sent to them. */
  stall: async ({ clients, random, traffic }) => {
    const stalled = random.some(clients, 2)
    for (const client of stalled) {
      client.stopReading()
      traffic.flood(client.ledger.name)
    }
    await pause(random.whole(500, 5000))
    for (const client of stalled) client.resumeReading()
  },
  /** More is sent at once than the window holds, while all clients are connected. */
  burst: async ({ traffic, window }) => {
    traffic.burst(Math.ceil(window * 1.2))
  },
  join: async scene => {
    scene.addClients(scene.random.whole(1, 10))
  },
} satisfies Record<string, Fault>

/** The groups of faults. At any time, at most one fault of each group happens. */
export const lanes: readonly Readonly<Partial<Record<FaultName, Fault>>>[] = [
  engineFaults,
  processFaults,
  clientFaults,
]

export type FaultName =
  | keyof typeof engineFaults
  | keyof typeof processFaults
  | keyof typeof clientFaults
