/**
 * Presence beside the other traffic. Members come, go, reload and move to other processes, with one tab or two, and
 * change their state. Once all is quiet, every process must list exactly the members that are connected, and so must the
 * map of every page, which a page keeps as docs/presence.md says. It has a log of its own on the same engine, so its
 * entries take no place in the windows that the model of the other events counts.
 */
import http from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { type Model, Violation } from './model.js'
import type { ServerProcess } from './processes.js'
import type { Random } from './random.js'

/** Every BEAT milliseconds some members do something. */
const BEAT = 60
const MEMBERS = 30
const ROOMS = ['hall', 'attic', 'cellar']

/** Longer than a lease, a grace period and the recovery of a process together, in ms. */
const SETTLE_TIMEOUT_MS = 30_000

export interface PresenceFigures {
  readonly connects: number
  /** Changes, snapshots and resets that pages got, by name. */
  readonly events: Record<string, number>
}

export interface PresenceTrafficOptions {
  readonly model: Model
  readonly random: Random
  readonly processes: () => readonly ServerProcess[]
}

type Members = Record<string, unknown>

interface Member {
  readonly id: string
  readonly rooms: readonly string[]
  version: number
  /** How many tabs it is to have. */
  wanted: number
  readonly tabs: Set<Tab>
}

export class PresenceTraffic {
  readonly figures = { connects: 0, events: {} as Record<string, number> }
  readonly #options: PresenceTrafficOptions
  readonly #members: Member[]
  #timer: NodeJS.Timeout | undefined
  #isOver = false

  constructor(options: PresenceTrafficOptions) {
    this.#options = options
    this.#members = Array.from({ length: MEMBERS }, (_, index) => ({
      id: `member${index}`,
      rooms: options.random.some(ROOMS, 2),
      ...{ version: 1, wanted: 1, tabs: new Set<Tab>() },
    }))
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#step(), BEAT)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  close(): void {
    this.#isOver = true
    this.stop()
    for (const { tabs } of this.#members) for (const tab of tabs) tab.close()
  }

  /** Resolves when all processes and pages agree with the model. */
  async settle(): Promise<void> {
    const deadline = performance.now() + SETTLE_TIMEOUT_MS
    for (;;) {
      for (const member of this.#members) this.#fill(member)
      const wrong = await this.#difference()
      if (wrong === undefined || this.#isOver) return
      if (performance.now() > deadline) {
        throw new Violation(`presence is wrong for ${SETTLE_TIMEOUT_MS} ms: ${wrong}`)
      }
      await pause(100)
    }
  }

  #step(): void {
    const { random } = this.#options
    const member = random.pick(this.#members)
    const does = random.next()
    // Away for longer than the window lasts, or for less than the grace period.
    if (does < 0.2) member.wanted = 0
    else if (does < 0.6) member.wanted = random.whole(1, 2)
    else if (does < 0.8) {
      // Which of two tabs with different states counts depends on the order of their messages.
      member.version += 1
      for (const tab of member.tabs) tab.close()
    } else for (const tab of member.tabs) tab.close()
    this.#fill(member)
  }

  #fill(member: Member): void {
    const { tabs, wanted } = member
    for (const tab of tabs) if (tabs.size > wanted) tab.close()
    while (tabs.size < wanted) this.#open(member)
  }

  #open(member: Member): void {
    this.figures.connects += 1
    const { random, processes } = this.#options
    const { events } = this.figures
    const tab = new Tab(random.pick(processes()).port, member, name => {
      events[name] = (events[name] ?? 0) + 1
    })
    member.tabs.add(tab)
    tab.onEnd = () => member.tabs.delete(tab)
  }

  async #difference(): Promise<string | undefined> {
    const expected = Object.fromEntries(ROOMS.map(room => [room, this.#expected(room)]))
    for (const { port } of this.#options.processes()) {
      const listed = (await getJson(port, '/members')) as Record<string, Members>
      for (const room of ROOMS) {
        const wrong = differenceOf(listed[room] ?? {}, expected[room] as Members)
        if (wrong) return `process ${port}, ${room}: ${wrong}`
      }
    }
    for (const { id, rooms, tabs, wanted } of this.#members) {
      if (tabs.size !== wanted) return `${id} has ${tabs.size} tabs of ${wanted}`
      for (const tab of tabs) {
        for (const room of rooms) {
          const wrong = differenceOf(tab.mapOf(room), expected[room] as Members)
          if (wrong) return `a page of ${id} on ${tab.port}, ${room}: ${wrong}`
        }
      }
    }
    return undefined
  }

  #expected(room: string): Members {
    const present = this.#members.filter(({ rooms, wanted }) => wanted > 0 && rooms.includes(room))
    return Object.fromEntries(present.map(({ id, version }) => [id, version]))
  }
}

/** A page: one connection, with a map for each room. */
class Tab {
  readonly port: number
  readonly #maps = new Map<string, Map<string, unknown>>()
  readonly #request: http.ClientRequest
  onEnd: () => void = () => {}

  constructor(port: number, { id, rooms, version }: Member, count: (name: string) => void) {
    this.port = port
    const query = new URLSearchParams({ id, rooms: rooms.join(','), version: String(version) })
    const path = `/presence?${query}`
    this.#request = http.get({ host: '127.0.0.1', port, path, agent: false })
    this.#request.on('error', () => {})
    this.#request.on('close', () => this.onEnd())
    this.#request.on('response', response => {
      response.on('error', () => {})
      if (response.statusCode !== 200) {
        response.resume()
        return
      }
      const parser = createParser({
        onEvent: ({ event = '', data }) => {
          count(event)
          this.#apply(event, data)
        },
      })
      response.setEncoding('utf8')
      response.on('data', (text: string) => parser.feed(text))
    })
  }

  close(): void {
    this.onEnd()
    this.#request.destroy()
  }

  mapOf(room: string): Members {
    return Object.fromEntries(this.#maps.get(room) ?? [])
  }

  #apply(event: string, text: string): void {
    if (!/^presence\.(snapshot|join|update|leave)$/.test(event)) return
    const { channel, id, state, isFirst, members } = JSON.parse(text)
    const map = this.#maps.get(channel) ?? new Map<string, unknown>()
    this.#maps.set(channel, map)
    if (event === 'presence.leave') map.delete(id)
    else if (event !== 'presence.snapshot') map.set(id, state)
    else {
      if (isFirst) map.clear()
      for (const member of members) map.set(member.id, member.state)
    }
  }
}

function differenceOf(has: Members, expected: Members): string | undefined {
  for (const id of new Set([...Object.keys(has), ...Object.keys(expected)])) {
    if (has[id] !== expected[id]) return `${id} is ${has[id]} and must be ${expected[id]}`
  }
  return undefined
}

async function getJson(port: number, path: string): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { Connection: 'close' },
    signal: AbortSignal.timeout(SETTLE_TIMEOUT_MS),
  }).catch(() => undefined)
  return response?.ok ? response.json() : {}
}
