/** The faults of every engine that is a server. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Faults } from '../scene.js'

export interface EngineServer {
  /** Cuts all connections of the server processes. */
  cut(): Promise<void> | void
  freeze(): Promise<void> | void
  thaw(): Promise<void> | void
  /** Ends it as a power failure would. After `run` it has everything that it acknowledged. */
  kill(): Promise<void>
  run(): Promise<void>
  /** Replaces the log by an empty one. */
  empty(): Promise<void>
  /** Removes all entries; the log is still the same. */
  trim(): Promise<void>
}

export function serverFaults(server: EngineServer) {
  return {
    cut: async () => {
      await server.cut()
    },
    crash: async ({ random }) => {
      await server.kill()
      await pause(random.whole(0, 1500))
      await server.run()
    },
    freeze: async ({ random }) => {
      await server.freeze()
      await pause(random.whole(500, 4500))
      await server.thaw()
    },
    empty: async ({ model }) => {
      const loss = model.lose(true)
      await server.empty()
      loss.over()
    },
    trim: async ({ model }) => {
      const loss = model.lose(false)
      await server.trim()
      loss.over()
    },
  } satisfies Faults
}

/** @param erase ends the server and starts it without its data. */
export function wipeFault(erase: () => Promise<void>) {
  return {
    wipe: async ({ model }) => {
      const loss = model.lose(true)
      await erase()
      loss.over()
    },
  } satisfies Faults
}
