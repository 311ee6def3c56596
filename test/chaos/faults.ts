/** The faults of the processes and of the clients, which are the same on every engine. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Engine, Fault, Faults } from './scene.js'

const processFaults = {
  kill: ({ fleet, random }) => {
    const process = random.pick(fleet.processes)
    return fleet.replace(process, () => process.kill())
  },
  drain: ({ fleet, random }) => {
    const process = random.pick(fleet.processes)
    return fleet.replace(process, () => process.drain(random.whole(0, 1000)))
  },
  stop: async ({ fleet, random }) => {
    const process = random.pick(fleet.processes)
    process.pause()
    await pause(random.whole(500, 4000))
    process.resume()
  },
} satisfies Faults

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
} satisfies Faults

/** A group of faults. At any time, at most one fault of each group happens. */
export type Lane = Readonly<Record<string, Fault>>

export function lanesOf({ faults }: Pick<Engine, 'faults'>): readonly Lane[] {
  return [faults, processFaults, clientFaults]
}
