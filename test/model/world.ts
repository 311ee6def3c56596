/** Runs a script on a site, and notes for the model what was done. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Stream } from '../../src/stream/stream.js'
import { streamsOf } from '../helpers/interior.js'
import { ModelClient } from './client.js'
import type { Command, Script } from './commands.js'
import { Log, type Sent, type Stay, show, type Visit } from './judge.js'
import { type Place, type Site, WINDOW } from './sites.js'

/** A run that waits longer than this for an event will never get it. */
const PATIENCE_MS = Number(process.env.MODEL_PATIENCE ?? 20_000)

const PADDING = ` ${'x'.repeat(400 * 1024)}`

let runs = 0

/** How far the clock of all processes here was set forward. It never goes back. */
let ahead = 0
const { now } = Date
Date.now = () => now() + ahead

/** Less than the clock is set forward at once, and more than a run takes. */
const TTL_MS = 1_800_000

export interface Figures {
  sent: number
  received: number
  gaps: number
  resumed: number
  closed: number
}

type Sending = Command & { pool: number; awaited: boolean }

export class World {
  readonly #site: Site
  readonly #run = runs++
  readonly #clients = new Map<string, ModelClient>()
  readonly #sent: Sent[] = []
  /** Sends that have not settled. */
  readonly #pending = new Set<Promise<void>>()
  /** Places whose pool has closed. */
  readonly #drained = new Set<number>()
  #now = 0

  constructor(site: Site) {
    this.#site = site
  }

  /** Rejects with what is wrong, if anything is. */
  async run(script: Script, figures: Figures): Promise<void> {
    try {
      await this.#soon(this.#play(script), 'the run')
      this.#judge()
    } finally {
      for (const client of this.#clients.values()) client.cut()
    }
    for (const index of this.#drained) await this.#site.renew(index)
    this.#count(figures)
  }

  async #play({ commands }: Script): Promise<void> {
    // Each pool has read everything of the runs before. One whose connection the last run has cut may refuse a
    // send, and would give its clients a cursor of that run.
    for (const { index } of this.#site.places) await this.#probe(index)
    for (const command of commands) await this.#do(command)
    await this.#finish()
  }

  async #do(command: Command): Promise<void> {
    const client = 'client' in command ? this.#clients.get(command.client) : undefined
    switch (command.do) {
      case 'open':
        return this.#open(command)
      case 'reconnect':
        if (client !== undefined) await this.#connect(client, this.#place(command.pool))
        return
      case 'cut':
        return client?.cut()
      case 'send':
        return this.#send([`@${this.#name(command.client)}`], command)
      case 'broadcast':
        return this.#send(['*'], command, command.except)
      case 'publish': {
        const channels = new Set([command.channel, command.also ?? command.channel])
        const targets = Array.from(channels, channel => `#${this.#name(channel)}`)
        return this.#send(targets, command, command.except)
      }
      case 'join':
        return this.#join(client, this.#name(command.channel))
      case 'leave':
        return this.#leave(client, this.#name(command.channel))
      case 'put in':
      case 'take out':
        return this.#change(client, command)
      case 'remove':
        return this.#send([`@${this.#name(command.client)}`], command)
      case 'end':
        return this.#end(client)
      case 'block':
        return client?.block()
      case 'unblock':
        return client?.unblock()
      case 'evict':
        for (let n = 0; n < WINDOW; n++) {
          const options = { pool: command.pool, awaited: n === WINDOW - 1 }
          await this.#send([`#nobody${this.#run}`], options)
        }
        return
      case 'turn':
        return new Promise(resolve => setImmediate(resolve))
      case 'wait':
        return this.#wait()
      case 'settle':
        return this.#isUp ? this.#settle() : undefined
      case 'slow':
        if (this.#site.link) this.#site.link.milliseconds = command.milliseconds
        return
      case 'gone':
        return this.#site.outage?.goAway()
      case 'deaf':
        return this.#site.outage?.goDeaf()
      case 'back':
        return this.#site.outage?.comeBack()
      case 'drain':
        return this.#drain(command.pool)
    }
  }

  // Clients

  async #open({ client: name, pool, channels }: Command & { do: 'open' }): Promise<void> {
    this.#clients.get(name)?.cut()
    const known = this.#clients.get(name)
    const full = this.#name(name)
    const names = channels.map(channel => this.#name(channel))
    const client = new ModelClient(full, names, () => this.#tick())
    // A page that is loaded again: another one, with what the one before it has seen.
    client.visits.push(...(known?.visits ?? []))
    this.#clients.set(name, client)
    await this.#connect(client, this.#place(pool))
  }

  async #connect(client: ModelClient, place: Place): Promise<void> {
    const wasOver = client.isOver
    const status = await client.connect(place)
    if (status !== (wasOver ? 204 : 200)) {
      throw new Error(`${client.name} was answered ${status}${wasOver ? ' after its end' : ''}`)
    }
  }

  #join(client: ModelClient | undefined, channel: string): void {
    const stream = client?.place?.streams.get(client.name)
    if (client?.visit === undefined || stream === undefined) return
    const now = this.#tick()
    stream.join(channel)
    begin(client.visit, `#${channel}`, [now, now])
  }

  #leave(client: ModelClient | undefined, channel: string): void {
    const stream = client?.place?.streams.get(client.name)
    if (client?.visit === undefined || stream === undefined) return
    const now = this.#tick()
    stream.leave(channel)
    finish(client.visit, `#${channel}`, [now, now])
  }

  /** Through the pool: on any process if all have it at once, else on the client's, which has it when it resolves. */
  async #change(
    client: ModelClient | undefined,
    { do: does, channel: short, pool }: Command & { do: 'put in' | 'take out' },
  ): Promise<void> {
    if (client?.visit === undefined || client.place === undefined || !this.#isUp) return
    const { visit } = client
    const place = this.#site.isPrompt ? this.#place(pool) : client.place
    const channel = this.#name(short)
    const members = place.pool.channel(channel)
    const began = this.#tick()
    const change = does === 'put in' ? members.add(client.name) : members.remove(client.name)
    if ((await stored(change)) === undefined) return
    const moments = [began, this.#tick()] as const
    if (does === 'put in') begin(visit, `#${channel}`, moments)
    else finish(visit, `#${channel}`, moments)
  }

  #wait(): void {
    ahead += 2 * TTL_MS
    const now = this.#tick()
    for (const sent of this.#sent) {
      if (sent.life === 'ttl') sent.expired = Math.min(sent.expired, now)
    }
  }

  #end(client: ModelClient | undefined): void {
    const stream = client?.place?.streams.get(client.name)
    if (client?.visit === undefined || stream === undefined) return
    // While it is not decided where the stream continues, an end comes before what waits for it.
    const isParked = ({ face, isParked }: Stream) => face === stream && isParked
    if (streamsOf((client.place as Place).pool).some(isParked)) return
    client.visit.endedAt ??= this.#tick()
    stream.end('end')
  }

  // Sends

  async #send(
    targets: readonly string[],
    { pool: index, awaited, ...options }: Pick<Sending, 'pool' | 'awaited'> & Partial<Command>,
    exceptNames: readonly string[] = [],
  ): Promise<void> {
    const { pool, index: at } = this.#place(index)
    const isRemoval = options.do === 'remove'
    const key = 'key' in options ? options.key : undefined
    const life = 'life' in options ? options.life : undefined
    const except = exceptNames.map(name => this.#name(name))
    const n = this.#sent.length
    const isBig = 'big' in options && options.big === true
    const sent: Sent = {
      ...{ n, targets, isRemoval, except, key, life, isBig, pool: at, begun: this.#tick() },
      ...{ resolved: Number.POSITIVE_INFINITY, expired: Number.POSITIVE_INFINITY },
      ...{ hasFailed: false, id: undefined },
    }
    this.#sent.push(sent)
    const data = `${n}${isBig ? PADDING : ''}`
    const ttl = life === 'ttl' ? TTL_MS : undefined
    const event = { data, key, ttl, volatile: life === 'volatile' }
    const [target = '*'] = targets
    const [name = '', ...others] = targets.map(target => target.slice(1))
    const promise = isRemoval
      ? pool.remove(name, String(n))
      : target === '*'
        ? pool.broadcast(event, { except })
        : target.startsWith('#')
          ? pool.channels(name, ...others).send(event, { except })
          : pool.send(name, event)
    const settled = this.#settled(sent, promise)
    // The memory log has stored it by now.
    if (!this.#site.hasTwoPools) sent.resolved = this.#tick()
    this.#pending.add(settled)
    void settled.then(() => this.#pending.delete(settled))
    if (awaited && this.#isUp) await settled
  }

  /** Sends again until it is known whether the log has it. */
  async #settled(sent: Sent, promise: Promise<string>): Promise<void> {
    sent.id = await stored(promise, () => {
      sent.hasFailed = true
    })
    if (sent.id !== undefined) sent.resolved = Math.min(sent.resolved, this.#tick())
  }

  // The engine and the pools

  get #isUp(): boolean {
    return this.#site.outage?.isUp !== false
  }

  /** Also with nothing under way, so that what follows is not refused. */
  async #comeBack(): Promise<void> {
    this.#site.outage?.comeBack()
    if (this.#site.outage) await this.#site.recovered(this.#drained)
  }

  async #drain(index: number): Promise<void> {
    const place = this.#site.places[index] as Place
    if (this.#drained.size > 0) return
    await this.#comeBack()
    await Promise.all(this.#pending)
    this.#drained.add(index)
    const clients = [...this.#clients.values()].filter(client => client.place === place)
    const closed = place.close()
    // Those that do not read would be waited for.
    for (const client of clients) client.unblock()
    await closed
    await Promise.all(clients.map(client => client.until(() => client.place !== place)))
  }

  #place(index: number): Place {
    const { places } = this.#site
    const wanted = index % places.length
    return places[this.#drained.has(wanted) ? 1 - wanted : wanted] as Place
  }

  // The end

  /** Waits until every client that reads has everything. */
  async #settle(): Promise<void> {
    await Promise.all(this.#pending)
    const last = await this.#probe()
    await this.#everyone(async client => {
      if (client.isBlocked || client.visit?.endedAt !== undefined) return
      const { place } = client
      if (place === undefined) return
      const isThere = () => client.place !== place || client.isOver || client.lastEventId === last
      await this.#soon(client.until(isThere), `${client.name} to get ${last}`)
    })
  }

  async #finish(): Promise<void> {
    if (this.#site.link) this.#site.link.milliseconds = 0
    await this.#comeBack()
    await Promise.all(this.#pending)
    await this.#everyone(async client => client.unblock())
    const last = await this.#probe()
    await this.#everyone(async client => {
      const isThere = () => {
        const isToEnd = client.visit?.endedAt !== undefined && client.isConnected
        return client.isOver || (client.lastEventId === last && !isToEnd)
      }
      while (!isThere()) {
        if (!client.isConnected) await this.#connect(client, this.#place(0))
        const isSettled = () => isThere() || !client.isConnected
        await this.#soon(client.until(isSettled), `${client.name} to get ${last} or its end`)
      }
      // It asks once more, and then stays away.
      if (client.isOver) await this.#connect(client, this.#place(0))
    })
  }

  /** Resolves to the id of an event to everyone. */
  async #probe(pool = 0): Promise<string> {
    for (;;) {
      const n = this.#sent.length
      await this.#send(['*'], { pool, awaited: true })
      const id = this.#sent[n]?.id
      if (id !== undefined) return id
      // The log may be reached for reading again, and not yet for a send.
      await pause(5)
    }
  }

  async #everyone(visit: (client: ModelClient) => Promise<void>): Promise<void> {
    await Promise.all([...this.#clients.values()].map(visit))
  }

  #judge(): void {
    const log = new Log(this.#sent, {
      window: WINDOW,
      compare: (a, b) => this.#site.compare(a, b),
      isPrompt: this.#site.isPrompt,
    })
    for (const { visits } of this.#clients.values()) {
      for (const visit of visits) {
        const fault = log.judge(visit)
        if (fault !== undefined) throw new Error(this.#report(visit, fault, log))
      }
    }
    const [error] = this.#site.errors.splice(0)
    if (error !== undefined && !this.#site.hasOutages) throw error
  }

  #report(visit: Visit, fault: string, log: Log): string {
    const sent = log.entries.map(({ n, targets, key, life, except, isRemoval, pool, id }) => {
      const details = [key && `key ${key}`, life, except.length > 0 && `except ${except}`]
      const what = [isRemoval ? 'removes' : 'to', targets, ...details.filter(Boolean)].join(' ')
      return `  ${n} ${what} from pool ${pool}: ${id}`
    })
    const got = visit.got.map(received => `  ${show(received)}`)
    const { client, pool, cursor, stays } = visit
    return [
      `${client} ${fault}`,
      `its visit to pool ${pool} with ${cursor ?? 'no cursor'}, in ${JSON.stringify(stays)}, got:`,
      ...got,
      'the log is:',
      ...sent,
    ].join('\n')
  }

  #count(figures: Figures): void {
    figures.sent += this.#sent.length
    for (const { visits } of this.#clients.values()) {
      for (const { got, cursor } of visits) {
        if (cursor !== undefined) figures.resumed += 1
        for (const { kind } of got) {
          if (kind === 'entry') figures.received += 1
          if (kind === 'gap') figures.gaps += 1
          if (kind === 'close') figures.closed += 1
        }
      }
    }
  }

  /** Fails a run that would wait for ever. */
  async #soon(promise: Promise<void>, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        try {
          this.#judge()
          reject(new Error(`Waited in vain for ${what}`))
        } catch (error) {
          reject(error)
        }
      }, PATIENCE_MS)
    })
    await Promise.race([promise, late]).finally(() => clearTimeout(timer))
  }

  #tick(): number {
    this.#now += 1
    return this.#now
  }

  /** Clients and channels of a run are new, so that nothing of earlier runs concerns them. */
  #name(name: string): string {
    return `${name}${this.#run}`
  }
}

/** Tries again until it is known whether the log has an entry: resolves to its id, or to undefined. */
async function stored(promise: Promise<string>, onFailure = () => {}): Promise<string | undefined> {
  let retry: (() => Promise<string>) | undefined
  for (let attempt = promise; ; ) {
    try {
      return await attempt
    } catch (error) {
      onFailure()
      retry = (error as { retry?: () => Promise<string> }).retry ?? retry
      // What was not stored, although it was never uncertain, must not arrive.
      if (retry === undefined) return undefined
      await pause(10)
      attempt = retry()
    }
  }
}

/** The visit is in a channel from some moment between two on, if it was not already. */
function begin(visit: Visit, target: string, since: readonly [number, number]): void {
  const isIn = (stay: Stay) => stay.target === target && stay.leftAt === undefined
  if (!visit.stays.some(isIn)) visit.stays.push({ target, since, leftAt: undefined })
}

function finish(visit: Visit, target: string, leftAt: readonly [number, number]): void {
  for (const stay of visit.stays) if (stay.target === target) stay.leftAt ??= leftAt
}
