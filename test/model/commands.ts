/** What can happen in a run, as data, so that a counterexample can be read and replayed. */
import fc from 'fast-check'

const CLIENTS = ['ada', 'bob', 'eve'] as const
const CHANNELS = ['news', 'sport'] as const
type Name = (typeof CLIENTS)[number]
type ChannelName = (typeof CHANNELS)[number]

/** `pool` is 0 or 1: the process that does it, or that the client connects to. */
export type Command =
  /** The page is loaded: a stream without a cursor. */
  | { do: 'open'; client: Name; pool: number; channels: readonly ChannelName[] }
  /** The browser comes back by itself, with its cursor. */
  | { do: 'reconnect'; client: Name; pool: number }
  /** The connection is lost. */
  | { do: 'cut'; client: Name }
  | ({ do: 'send'; client: Name } & Sending)
  | ({ do: 'broadcast'; except?: readonly Name[] | undefined } & Sending)
  | ({
      do: 'publish'
      channel: ChannelName
      /** Sent to this channel too, as one event. */
      also?: ChannelName | undefined
      except?: readonly Name[] | undefined
    } & Sending)
  | { do: 'join' | 'leave'; client: Name; channel: ChannelName }
  /** The same through the pool: `channel.add(id)` and `channel.remove(id)`. */
  | { do: 'put in' | 'take out'; client: Name; channel: ChannelName; pool: number }
  | { do: 'remove'; client: Name; pool: number; awaited: boolean }
  /** `ctx.sse.end()` on the client's open stream. */
  | { do: 'end'; client: Name }
  /** The client stops to read, or reads again. */
  | { do: 'block' | 'unblock'; client: Name }
  /** So many entries for nobody that all others leave the window. */
  | { do: 'evict'; pool: number }
  /** The event loop turns once. */
  | { do: 'turn' }
  /** The clock goes on, so that every ttl is over. */
  | { do: 'wait' }
  /** Every client that reads gets everything. */
  | { do: 'settle' }
  | { do: 'slow'; milliseconds: number }
  /** The engine is out of reach, its replies are lost, or it is in reach again. */
  | { do: 'gone' | 'deaf' | 'back' }
  /** The pool closes as for a deployment. */
  | { do: 'drain'; pool: number }

interface Sending {
  readonly pool: number
  readonly key?: string | undefined
  /** That it need not be delivered for ever. */
  readonly life?: 'ttl' | 'volatile' | undefined
  /** Fills the socket of a client that does not read. */
  readonly big: boolean
  readonly awaited: boolean
}

/** What an engine of a site allows. */
export interface Abilities {
  readonly hasTwoPools: boolean
  /** Its engine can be out of reach. */
  readonly hasOutages: boolean
  /** The way to its engine can be slow. */
  readonly hasLink: boolean
}

/** The commands of one run, shown one a line. */
export class Script {
  readonly commands: readonly Command[]

  constructor(commands: readonly Command[]) {
    this.commands = commands
  }

  toString(): string {
    return this.commands.map((command, index) => `\n  ${index + 1}. ${show(command)}`).join('')
  }

  [fc.toStringMethod](): string {
    return this.toString()
  }
}

function show({ do: name, ...args }: Command): string {
  const shown = Object.entries(args).filter(([, value]) => value !== undefined && value !== false)
  return `${name} ${shown.map(([key, value]) => `${key}=${value}`).join(' ')}`
}

const client = fc.constantFrom(...CLIENTS)
const channel = fc.constantFrom(...CHANNELS)
const pool = fc.nat(1)
const except = fc.option(fc.subarray([...CLIENTS]), { nil: undefined, freq: 3 })
const sending = {
  pool,
  key: fc.option(fc.constantFrom('k', 'l'), { nil: undefined, freq: 2 }),
  life: fc.option(fc.constantFrom('ttl', 'volatile'), { nil: undefined, freq: 2 }),
  big: fc.integer({ max: 5, min: 0 }).map(n => n === 5),
  awaited: fc.boolean(),
}

const also = fc.option(channel, { nil: undefined, freq: 2 })

const a = <Do extends string>(name: Do) => fc.constant(name)

export function scripts({ hasTwoPools, hasOutages, hasLink }: Abilities): fc.Arbitrary<Script> {
  const weighted: [number, fc.Arbitrary<Command>][] = [
    [6, fc.record({ do: a('send'), client, ...sending })],
    [4, fc.record({ do: a('broadcast'), except, ...sending })],
    [5, fc.record({ do: a('publish'), channel, also, except, ...sending })],
    [6, fc.record({ do: a('open'), client, pool, channels: fc.subarray([...CHANNELS]) })],
    [6, fc.record({ do: a('reconnect'), client, pool })],
    [4, fc.record({ do: a('cut'), client })],
    [3, fc.record({ do: fc.constantFrom('join', 'leave'), client, channel })],
    [3, fc.record({ do: fc.constantFrom('put in', 'take out'), client, channel, pool })],
    [1, fc.record({ do: a('remove'), client, pool, awaited: fc.boolean() })],
    [1, fc.record({ do: a('end'), client })],
    [3, fc.record({ do: fc.constantFrom('block', 'unblock'), client })],
    [1, fc.record({ do: a('evict'), pool })],
    [3, fc.record({ do: a('turn') })],
    [1, fc.record({ do: a('wait') })],
    [1, fc.record({ do: a('settle') })],
  ]
  if (hasTwoPools) weighted.push([1, fc.record({ do: a('drain'), pool })])
  if (hasLink) {
    weighted.push([1, fc.record({ do: a('slow'), milliseconds: fc.constantFrom(0, 1, 5) })])
  }
  if (hasOutages) weighted.push([2, fc.record({ do: fc.constantFrom('gone', 'deaf', 'back') })])
  const commands = weighted.map(([weight, arbitrary]) => ({ weight, arbitrary }))
  // fast-check prefers short runs, in which nothing is ever evicted.
  const options = { minLength: 1, maxLength: 40, size: 'max' } as const
  // Without a client nothing is received: the first command opens one.
  const first = fc.record({
    do: a('open'),
    client: a('ada'),
    pool,
    channels: fc.subarray([...CHANNELS]),
  })
  return fc
    .tuple(first, fc.array(fc.oneof(...commands), options))
    .map(([first, rest]) => new Script([first, ...rest]))
}

const big = { pool: 0, big: true, awaited: true }
const small = { ...big, big: false }

/**
 * Runs that chance seldom makes: a client that joins or leaves a channel while its socket is full, and one that
 * comes back like another one just before it, when what that one got has expired.
 */
export const RARE: readonly Script[] = [
  new Script([
    { do: 'open', client: 'ada', pool: 0, channels: [] },
    { do: 'block', client: 'ada' },
    { do: 'send', client: 'ada', ...big },
    { do: 'turn' },
    { do: 'publish', channel: 'news', ...small },
    { do: 'join', client: 'ada', channel: 'news' },
    { do: 'publish', channel: 'news', ...small },
  ]),
  new Script([
    { do: 'open', client: 'ada', pool: 0, channels: ['news'] },
    { do: 'block', client: 'ada' },
    { do: 'send', client: 'ada', ...big },
    { do: 'turn' },
    { do: 'publish', channel: 'news', ...small },
    { do: 'leave', client: 'ada', channel: 'news' },
    { do: 'publish', channel: 'news', ...small },
    // It must not read what came after it left.
    { do: 'leave', client: 'ada', channel: 'news' },
  ]),
  new Script([
    { do: 'open', client: 'ada', pool: 0, channels: [] },
    { do: 'open', client: 'bob', pool: 0, channels: [] },
    { do: 'open', client: 'eve', pool: 0, channels: [] },
    { do: 'settle' },
    { do: 'cut', client: 'ada' },
    { do: 'cut', client: 'bob' },
    { do: 'broadcast', life: 'ttl', ...small },
    { do: 'reconnect', client: 'ada', pool: 0 },
    { do: 'wait' },
    { do: 'reconnect', client: 'bob', pool: 0 },
  ]),
]
