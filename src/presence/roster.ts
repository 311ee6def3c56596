/**
 * Who is where, as the messages in the log say. It knows neither clocks nor the pool: processes that apply the
 * same messages in the same order have the same roster and derive the same changes, each with the same number.
 */

/** A change that pages get as an event. */
export interface Change {
  readonly type: 'join' | 'update' | 'leave'
  readonly channel: string
  readonly id: string
  /** JSON. Of a leave: the last state. */
  readonly state: string
}

/** A change that may not be in the log as an event yet, and the nonce of that event. */
export interface Pending {
  readonly number: number
  readonly nonce: string
  readonly change: Change
}

export type Message = { readonly from: string; readonly n: number } & (
  | { readonly says: 'hello' | 'found' }
  | { readonly says: 'alive'; readonly told: number }
  | { readonly says: 'bye'; readonly told: number; readonly grace: number }
  | {
      readonly says: 'change'
      readonly set: readonly (readonly [channel: string, id: string, state: string])[]
      readonly unset: readonly (readonly [channel: string, id: string])[]
    }
  | { readonly says: 'dead'; readonly who: string; readonly seen: number }
  | {
      readonly says: 'state'
      readonly to: string
      readonly at: number
      readonly part: Part
      readonly index: number
      readonly isLast: boolean
    }
)

/** A part of a roster as JSON: engines limit the size of an entry. The first one has all processes. */
export interface Part {
  readonly count: number
  readonly version: number
  readonly processes: readonly (readonly [
    name: string,
    n: number,
    isSynced: boolean,
    grace: number | null,
  ])[]
  readonly pending: readonly Pending[]
  readonly members: readonly (readonly [
    process: string,
    channel: string,
    id: string,
    state: string,
    version: number,
  ])[]
}

/** Characters of a part. Text takes up to three bytes for each, and NATS takes 1 MB by default. */
export const PART_LENGTH = 100_000

interface Membership {
  readonly channel: string
  readonly id: string
  readonly state: string
  /** Which of several processes has set the state last. */
  readonly version: number
}

const NO_MEMBERS: ReadonlyMap<string, never> = new Map<string, never>()

interface Process {
  /** The number of its last message. */
  n: number
  /** Whether it has the roster, and so may tell pages. */
  isSynced: boolean
  /** Set once it has closed: for how many milliseconds its members stay, so that they can move elsewhere. */
  grace: number | null
  /** By {@link placeOf}. */
  readonly members: Map<string, Membership>
}

export class Roster {
  /** In the order of their first hello. */
  readonly #processes = new Map<string, Process>()
  /** Of each member, the processes that it is on, by channel and id. */
  readonly #channels = new Map<string, Map<string, Map<Process, Membership>>>()
  #pending: Pending[] = []
  /** The number of each member's newest pending change. */
  readonly #newest = new Map<string, number>()
  #count = 0
  #version = 0

  /** @param founder the only process at first, if there is one. */
  static foundedBy(founder: string, n: number): Roster {
    const roster = new Roster()
    roster.#processes.set(founder, { n, isSynced: true, grace: null, members: new Map() })
    return roster
  }

  static from(parts: readonly Part[]): Roster {
    const roster = new Roster()
    for (const { count, version, processes, pending, members } of parts) {
      roster.#count = count
      roster.#version = version
      for (const change of pending) roster.#await(change)
      for (const [name, n, isSynced, grace] of processes) {
        roster.#processes.set(name, { n, isSynced, grace, members: new Map() })
      }
      for (const [name, channel, id, state, v] of members) {
        const process = roster.#processes.get(name)
        if (process !== undefined) roster.#put(process, { channel, id, state, version: v })
      }
    }
    return roster
  }

  /** @param length of a part, which one member or change may exceed. */
  parts(length = PART_LENGTH): Part[] {
    const processes = Array.from(
      this.#processes,
      ([name, { n, isSynced, grace }]) => [name, n, isSynced, grace] as const,
    )
    const { count, version } = { count: this.#count, version: this.#version }
    const begin = () => ({
      ...{ count, version, processes: [] as typeof processes },
      ...{ pending: [] as Pending[], members: [] as Part['members'][number][] },
    })
    let part = { ...begin(), processes }
    const parts = [part]
    let left = length
    const add = <Row>(rows: (part: ReturnType<typeof begin>) => Row[], row: Row) => {
      if (left <= 0) {
        part = begin()
        parts.push(part)
        left = length
      }
      rows(part).push(row)
      left -= JSON.stringify(row).length
    }
    for (const change of this.#pending) add(({ pending }) => pending, change)
    for (const [name, process] of this.#processes) {
      for (const { channel, id, state, version: v } of process.members.values()) {
        add(({ members }) => members, [name, channel, id, state, v] as const)
      }
    }
    return parts
  }

  /** The process that tells the pages: the oldest that has the roster. */
  get teller(): string | undefined {
    for (const [name, { isSynced, grace }] of this.#processes) {
      if (isSynced && grace === null) return name
    }
    return undefined
  }

  /** For how long the members of a process that has closed stay; undefined if it has not closed. */
  graceOf(process: string): number | undefined {
    return this.#processes.get(process)?.grace ?? undefined
  }

  /** Changes that may not have been sent to the pages yet, oldest first. */
  get pending(): readonly Pending[] {
    return this.#pending
  }

  get processes(): Iterable<string> {
    return this.#processes.keys()
  }

  /** The number of a process's last message; undefined if the process is unknown. */
  lastOf(process: string): number | undefined {
    return this.#processes.get(process)?.n
  }

  hasMembers(channel: string): boolean {
    return this.#channels.has(channel)
  }

  /** The ids of a channel's members. */
  ids(channel: string): string[] {
    return [...(this.#channels.get(channel)?.keys() ?? [])]
  }

  /** The state of a member; undefined if it is none. */
  stateOf(channel: string, id: string): string | undefined {
    return newest(this.#channels.get(channel)?.get(id))?.state
  }

  *members(channel: string): Iterable<{ id: string; state: string }> {
    for (const [id, places] of this.#channels.get(channel) ?? []) {
      yield { id, state: newest(places)?.state ?? 'null' }
    }
  }

  /** The members that a process has published, by {@link placeOf}. */
  membersOf(
    process: string,
  ): ReadonlyMap<string, { readonly channel: string; readonly id: string }> {
    return this.#processes.get(process)?.members ?? NO_MEMBERS
  }

  *channels(): Iterable<string> {
    yield* this.#channels.keys()
  }

  /** Applies a message and returns the changes that it causes. */
  apply(message: Message): Change[] {
    const { from, n, says } = message
    let process = this.#processes.get(from)
    if (says === 'hello' && process === undefined) {
      process = { n, isSynced: false, grace: null, members: new Map() }
      this.#processes.set(from, process)
    }
    // Declared dead, or a repetition.
    if (process === undefined || (n <= process.n && says !== 'hello')) return []
    process.n = Math.max(n, process.n)
    const changes = this.#changesOf(process, message)
    for (const change of changes) {
      this.#count += 1
      this.#await({ number: this.#count, nonce: `${from}_${n}_${this.#count}`, change })
    }
    return changes
  }

  #changesOf(process: Process, message: Message): Change[] {
    switch (message.says) {
      case 'change':
        return [
          ...message.set.flatMap(([channel, id, state]) =>
            this.#changing(channel, id, () => {
              this.#version += 1
              this.#put(process, { channel, id, state, version: this.#version })
            }),
          ),
          ...message.unset.flatMap(([channel, id]) =>
            this.#changing(channel, id, () => this.#drop(process, channel, id)),
          ),
        ]
      case 'dead': {
        const dead = this.#processes.get(message.who)
        // It has given a sign of life that the process that declares it dead had not seen.
        if (dead === undefined || dead.n !== message.seen) return []
        this.#processes.delete(message.who)
        return Array.from(dead.members.values()).flatMap(({ channel, id }) =>
          this.#changing(channel, id, () => this.#drop(dead, channel, id)),
        )
      }
      case 'state': {
        const newcomer = this.#processes.get(message.to)
        if (newcomer !== undefined && message.isLast) newcomer.isSynced = true
        return []
      }
      case 'bye':
        process.grace = message.grace
        this.#forget(message.told)
        return []
      case 'alive':
        this.#forget(message.told)
        return []
      default:
        return []
    }
  }

  /**
   * Whether a newer change of the same member is pending too. Only the newest may be sent: if a new teller repeated
   * both, and the log still knew the nonce of the newer one alone, the older one would be stored last.
   */
  isSuperseded({ number, change: { channel, id } }: Pending): boolean {
    return this.#newest.get(placeOf(channel, id)) !== number
  }

  #await(pending: Pending): void {
    this.#pending.push(pending)
    this.#newest.set(placeOf(pending.change.channel, pending.change.id), pending.number)
  }

  #forget(told: number): void {
    for (const pending of this.#pending) {
      if (pending.number > told) break
      const { channel, id } = pending.change
      if (!this.isSuperseded(pending)) this.#newest.delete(placeOf(channel, id))
    }
    this.#pending = this.#pending.filter(({ number }) => number > told)
  }

  /** What a step changes in the member, on whichever process it is. */
  #changing(channel: string, id: string, step: () => void): Change[] {
    const before = this.stateOf(channel, id)
    step()
    const after = this.stateOf(channel, id)
    if (before === after) return []
    if (after === undefined) return [{ type: 'leave', channel, id, state: before as string }]
    return [{ type: before === undefined ? 'join' : 'update', channel, id, state: after }]
  }

  #put(process: Process, membership: Membership): void {
    const { channel, id } = membership
    process.members.set(placeOf(channel, id), membership)
    const members = this.#channels.get(channel) ?? new Map<string, Map<Process, Membership>>()
    this.#channels.set(channel, members)
    const places = members.get(id) ?? new Map<Process, Membership>()
    members.set(id, places.set(process, membership))
  }

  #drop(process: Process, channel: string, id: string): void {
    process.members.delete(placeOf(channel, id))
    const members = this.#channels.get(channel)
    const places = members?.get(id)
    places?.delete(process)
    if (places?.size === 0) members?.delete(id)
    if (members?.size === 0) this.#channels.delete(channel)
  }
}

/** Neither a channel's name nor an id contains a line break. */
export function placeOf(channel: string, id: string): string {
  return `${channel}\n${id}`
}

function newest(places: Map<Process, Membership> | undefined): Membership | undefined {
  let found: Membership | undefined
  for (const membership of places?.values() ?? []) {
    if (found === undefined || membership.version > found.version) found = membership
  }
  return found
}
