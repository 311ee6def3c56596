/** Where faults happen, and what an engine brings to it. */
import type { ChaosClient } from './client.js'
import type { Fleet } from './fleet.js'
import type { EngineName } from './messages.js'
import type { Model } from './model.js'
import type { Random } from './random.js'
import type { Traffic } from './traffic.js'

/** An engine that the processes share, as the driver sees it. */
export interface Engine {
  readonly name: EngineName
  /** Where the server processes reach it: a port, or the path of a file. */
  readonly address: string
  /** Its faults, by name. */
  readonly faults: Faults
  /** Whether it stores runs. */
  readonly hasRuns: boolean
  /** Whether events can be sent in transactions of the app. */
  readonly hasTransactions: boolean
  stop(): Promise<void>
}

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

/** Resolves when the engine, the process or the clients have recovered. */
export type Fault = (scene: Scene) => Promise<void>
export type Faults = Readonly<Record<string, Fault>>
