/**
 * Readers against a model. Random sends, joins, removals, blocks and reconnects run through the window, the
 * pump and the readers; what each client got must then agree with what was sent, by rules that are all
 * written in `judge`. `MODEL_RUNS=100000 npm run test:unit` runs it for longer, and
 * `MODEL_SEED` chooses the steps; a failure is then shown as it is, because finding a shorter one takes long.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseCursor } from '../../src/delivery/history.js'
import { Pump } from '../../src/delivery/pump.js'
import { Gap, Reader, type Replay } from '../../src/delivery/reader.js'
import { Resumption } from '../../src/delivery/resume.js'
import type { Batch, Target } from '../../src/delivery/target.js'
import { Window } from '../../src/delivery/window.js'

const { MODEL_RUNS, MODEL_SEED } = process.env
const RUNS = Number(MODEL_RUNS ?? 10_000)
const WINDOW = 8
const CLIENTS = ['ada', 'bob', 'eve']
/** A batch takes three of these, so that a reader can be cut in the middle of what it has to read. */
const FRAME = `data: ${'x'.repeat(100_000)}\n\n`
const CHANNELS = ['#news', '#sport']

/** What was sent, oldest first; its position in the log is its index plus 1. */
interface Sent {
  readonly target: string
  readonly key: string | undefined
  readonly except: string | undefined
}

/** What one visit of a client was: from its opening to its end. */
interface Visit {
  readonly id: string
  /** Entries up to here are history: removals in there are not about this visit. */
  readonly openedAt: number
  /** Whether only the newest entries of its history are meant for it. */
  readonly latestOnly: boolean
  /** Whether all of its history is meant for it. */
  readonly wantsAll: boolean
  /** Entries up to here had left the window when it began to read; undefined before. */
  begunAfter: number | undefined
  /** After which position the client must get everything. */
  from: number
  /** Whether anything could be delivered to it yet. */
  hasBegun: boolean
  /** The newest position when the connection was lost. */
  cutAt: number | undefined
  /** For each target, from where to where it read it. */
  readonly membership: { target: string; after: number; until: number; wasLeft: boolean }[]
  readonly got: Received[]
}

/** An entry, a gap that skips to the tail or precedes a history, or the removal that ends the stream. */
interface Received {
  readonly kind: 'entry' | 'gap' | 'lost beginning' | 'removal'
  readonly position: number
  /** The newest position of the window by then. */
  readonly tail: number
}

interface Opening {
  readonly replay: Replay
  readonly channels: readonly string[]
  readonly comesBack: boolean
  readonly room: number
}

class ModelReader extends Reader {
  readonly clientTarget: Target
  readonly visit: Visit
  isClosed = false
  /** How many batches it still takes; a blocked reader takes none. */
  room = Number.POSITIVE_INFINITY
  readonly #window: Window
  lastId = ''

  constructor(window: Window, visit: Visit, lastEventId: string) {
    super(lastEventId)
    this.#window = window
    this.visit = visit
    this.clientTarget = window.target(`@${visit.id}`)
    this.lastId = lastEventId
  }

  get id(): string {
    return this.visit.id
  }

  canTake(): boolean {
    if (this.isClosed || this.room <= 0) return false
    if (!this.visit.hasBegun) {
      this.visit.hasBegun = true
      this.visit.begunAfter = this.#window.start
      // History that left the window before it could be delivered was not promised to a new client.
      const { from, openedAt } = this.visit
      if (!this.hasResumed) this.visit.from = Math.max(from, Math.min(this.#window.start, openedAt))
    }
    return true
  }

  take(next: Batch | Gap): void {
    this.room -= 1
    if (next instanceof Gap && next.id === undefined) {
      this.#note('lost beginning', 0)
      return
    }
    if (next instanceof Gap) {
      this.#note('gap', this.#window.tail)
      this.lastId = next.id ?? ''
      return
    }
    for (const slot of next.slots) {
      this.#note('entry', slot.position)
      this.lastId = next.idOf(slot)
    }
    if (next.removal === undefined) return
    this.#note('removal', next.removal.position)
    this.end()
  }

  #note(kind: Received['kind'], position: number): void {
    this.visit.got.push({ kind, position, tail: this.#window.tail })
  }

  end(): void {
    this.isClosed = true
    for (const target of this.targets) {
      target.delete(this)
      this.#window.release(target)
    }
  }

  wake(): void {}
}

/** The system under test, and the notes for the model. */
class World {
  readonly sent: Sent[] = []
  readonly visits: Visit[] = []
  readonly window = new Window(
    { compare: (a, b) => Number(a.slice(1)) - Number(b.slice(1)) },
    { events: WINDOW, bytes: 1e9 },
  )
  readonly pump = new Pump(this.window, 0)
  readonly resumption = new Resumption(
    this.window,
    { barrier: async () => this.window.tailId ?? null },
    { resumed() {}, lost() {}, settled() {}, error() {} },
  )
  readonly readers = new Map<string, ModelReader>()
  readonly cursors = new Map<string, string>()
  /** Visits that were cut in the middle of their history. */
  readonly unfinished = new Map<string, Visit>()

  send(target: string, key?: string, except?: string): void {
    this.sent.push({ target, key, except })
    const id = `e${this.sent.length}`
    const wire = except === undefined ? target : `${target}\n${except}`
    const entry = { id, nonce: id, target: wire, frame: FRAME }
    this.window.append(key === undefined ? entry : { ...entry, key })
  }

  remove(id: string): void {
    this.send(`-${id}`)
  }

  removeMembers(channel: string): void {
    this.send(`!${channel.slice(1)}`)
  }

  open(id: string, { replay, channels, comesBack, room }: Opening): void {
    if (this.readers.has(id)) return
    const { tail, start } = this.window
    const lastEventId = comesBack ? (this.cursors.get(id) ?? '') : ''
    const resumesAt = this.window.find(parseCursor(lastEventId).id)
    // The log would be asked about an unknown cursor, which is the subject of other tests.
    if (lastEventId !== '' && resumesAt === undefined) return
    const isNew = resumesAt === undefined
    const visit: Visit = {
      id,
      openedAt: isNew ? tail : (this.unfinished.get(id)?.openedAt ?? 0),
      latestOnly: isNew ? replay === 'latest' : (this.unfinished.get(id)?.latestOnly ?? false),
      wantsAll: isNew && replay === 'all',
      begunAfter: undefined,
      from: resumesAt ?? (replay === 'missed' ? tail : start),
      hasBegun: false,
      cutAt: undefined,
      membership: [],
      got: [],
    }
    const reader = new ModelReader(this.window, visit, lastEventId)
    reader.room = room
    const names = channels.map(name => this.window.target(name))
    const targets = [this.window.everyone, ...names, reader.clientTarget]
    reader.follow(targets)
    for (const target of targets) {
      target.add(reader)
      const until = Number.POSITIVE_INFINITY
      visit.membership.push({ target: target.name, after: visit.from, until, wasLeft: false })
    }
    if (lastEventId !== '') {
      reader.startResuming(this.window)
      this.resumption.resume(reader)
    } else {
      reader.start(this.window, replay)
    }
    this.visits.push(visit)
    this.readers.set(id, reader)
    this.pump.advance(reader)
  }

  /** The connection is lost; the client keeps the last id that it got. */
  cut(id: string): void {
    const reader = this.readers.get(id)
    if (reader === undefined) return
    this.cursors.set(id, reader.lastId)
    const { visit } = reader
    visit.cutAt = this.window.tail
    // A removal brings no id to come back with.
    const last = visit.got.findLast(({ kind }) => kind !== 'removal')
    if (last !== undefined && last.position < visit.openedAt) this.unfinished.set(id, visit)
    else if (last !== undefined) this.unfinished.delete(id)
    if (!reader.isClosed) reader.end()
    this.readers.delete(id)
    this.pump.forget(reader)
  }

  join(id: string, channel: string): void {
    const reader = this.readers.get(id)
    if (reader === undefined || reader.isClosed) return
    this.pump.advance(reader)
    const target = this.window.target(channel)
    if (!reader.isClosed && !target.has(reader)) {
      const isRejoin = (reader.leftAt?.get(target) ?? 0) > reader.cursor
      reader.join(this.window, [target])
      target.add(reader)
      const last = reader.visit.membership.findLast(({ target }) => target === channel)
      // What it had not read when it left is read on as if it had stayed.
      if (isRejoin && last !== undefined) last.until = Number.POSITIVE_INFINITY
      else {
        const until = Number.POSITIVE_INFINITY
        reader.visit.membership.push({
          target: channel,
          after: this.window.tail,
          until,
          wasLeft: false,
        })
      }
    }
    this.window.release(target)
  }

  leave(id: string, channel: string): void {
    const reader = this.readers.get(id)
    if (reader === undefined || reader.isClosed) return
    this.pump.advance(reader)
    const target = this.window.target(channel)
    const last = reader.visit.membership.findLast(({ target }) => target === channel)
    if (target.has(reader) && last !== undefined) {
      last.until = this.window.tail
      last.wasLeft = true
      reader.leave(this.window, target)
      target.delete(reader)
    }
    this.window.release(target)
  }

  block(id: string, room: number): void {
    const reader = this.readers.get(id)
    if (reader !== undefined) reader.room = room
  }

  unblock(id: string): void {
    const reader = this.readers.get(id)
    if (reader === undefined) return
    reader.room = Number.POSITIVE_INFINITY
    this.pump.advance(reader)
  }

  turn(): void {
    for (const reader of this.readers.values()) this.pump.advance(reader)
  }

  finish(): void {
    for (const id of this.readers.keys()) this.unblock(id)
  }
}

/** Every rule that a visit must keep. Returns what is wrong, if anything is. */
function judge(visit: Visit, sent: readonly Sent[]): string | undefined {
  const at = (position: number) => sent[position - 1] as Sent
  const isHistory = (position: number) => position <= visit.openedAt
  const isMember = (name: string, position: number) =>
    visit.membership.some(m => m.target === name && position > m.after && position <= m.until)
  const wouldRemove = (position: number) => {
    const { target } = at(position)
    const channel = target.startsWith('!') ? `#${target.slice(1)}` : undefined
    return target === `-${visit.id}` || (channel !== undefined && isMember(channel, position))
  }
  const isRemoval = (position: number) => wouldRemove(position) && !isHistory(position)
  const isMeant = (position: number) => {
    const { target, except } = at(position)
    return except !== visit.id && isMember(target, position)
  }
  /** Whether an entry up to `upTo` makes this one needless. */
  const isSuperseded = (position: number, upTo: number, latestOnly = visit.latestOnly) => {
    const { key, target } = at(position)
    // Of history, a reader may want the newest entry of a target only, also of those without a key.
    const isShown = key !== undefined || (latestOnly && isHistory(position))
    for (let newer = position + 1; newer <= upTo; newer++) {
      const entry = at(newer)
      if (key === undefined && !isHistory(newer)) break
      if (entry.key === key && entry.target === target && isMeant(newer)) return isShown
    }
    return false
  }

  const beginning = judgeBeginning(visit, sent)
  if (beginning !== undefined) return beginning
  const seen = new Set<number>()
  const skipped: { from: number; to: number }[] = []
  let reached = 0
  let removedAt: number | undefined
  for (const { kind, position, tail } of visit.got) {
    if (removedAt !== undefined) return `e${position} came after the removal e${removedAt}`
    if (kind === 'lost beginning') continue
    if (kind === 'entry') {
      if (position <= reached) return `e${position} came after e${reached}: twice or out of order`
      if (!isMeant(position)) return `e${position} was not meant for ${visit.id}`
      if (isHistory(position) && isSuperseded(position, visit.openedAt)) {
        return `e${position} came though the history had a newer entry in its place`
      }
      seen.add(position)
    } else {
      let hasLost = false
      for (let p = Math.max(reached, visit.from) + 1; p <= Math.min(position, tail - WINDOW); p++) {
        // What comes after this entry has been evicted cannot supersede it any more, and which of the
        // evicted ones was the latest is not remembered.
        const isNeeded = isMeant(p) && !isSuperseded(p, Math.min(position, p + WINDOW - 1), false)
        // A removal is remembered like any other entry, even if it was history.
        hasLost ||= isNeeded || wouldRemove(p)
      }
      // For a channel that was left, the window only remembers that anything was evicted.
      hasLost ||= visit.membership.some(({ wasLeft }) => wasLeft)
      if (kind === 'gap' && !hasLost) {
        return `a gap from e${reached} to e${position}, though nothing in between was lost`
      }
      if (kind === 'removal') {
        if (!isRemoval(position)) return `the removal e${position} was not about this visit`
        removedAt = position
      }
      // A removal also takes the place of a gap.
      if (hasLost) skipped.push({ from: reached, to: position })
    }
    reached = position
  }

  const end = removedAt ?? (visit.cutAt === undefined ? sent.length : reached)
  for (let position = visit.from + 1; position <= end; position++) {
    const isSkipped = skipped.some(({ from, to }) => position > from && position <= to)
    // Of several removals the newest may end it, but a gap must not take the place of one.
    const isEnded = position === removedAt || (isSkipped && removedAt !== undefined)
    // One that had left the channel and joined it again, all while it was behind, need not be ended.
    const hadLeft = visit.membership.some(
      ({ target, wasLeft }) => wasLeft && at(position).target === `!${target.slice(1)}`,
    )
    if (isRemoval(position) && !isEnded && !hadLeft)
      return `the removal e${position} did not end it`
    if (seen.has(position) || isSkipped || !isMeant(position)) continue
    // A newer entry counts even if the client was removed or cut off before it got that one.
    if (!isSuperseded(position, visit.cutAt ?? sent.length)) return `e${position} never came`
  }
  return undefined
}

/** A history that has lost its beginning comes after a gap. */
function judgeBeginning(visit: Visit, sent: readonly Sent[]): string | undefined {
  const { id, begunAfter = 0, membership, openedAt, wantsAll } = visit
  const isMeant = ({ target, except }: Sent) =>
    except !== id && membership.some(m => m.target === target.replace(/^-/, '@').replace(/^!/, '#'))
  /** Nothing with its key, sent before it left the window, supersedes it. */
  const isNeeded = (entry: Sent, index: number) =>
    isMeant(entry) &&
    (entry.key === undefined ||
      !sent
        .slice(index + 1, index + WINDOW)
        .some(newer => newer.key === entry.key && newer.target === entry.target && isMeant(newer)))
  const lost = sent.slice(0, begunAfter).filter(isNeeded)
  const places = visit.got.flatMap(({ kind }, index) => (kind === 'lost beginning' ? [index] : []))
  if (places.length > 0) {
    if (!wantsAll || places.join() !== '0') return 'a gap before a history at the wrong place'
    return lost.length > 0 ? undefined : 'a gap before a history that is whole'
  }
  // A target without members and entries is forgotten, all but that of everyone.
  const mustTell = wantsAll && openedAt > begunAfter && lost.some(({ target }) => target === '*')
  return mustTell && visit.got.length > 0
    ? 'a history without its beginning, and no gap'
    : undefined
}

const client = fc.constantFrom(...CLIENTS)
const channel = fc.constantFrom(...CHANNELS)
const target = fc.constantFrom('*', ...CLIENTS.map(id => `@${id}`), ...CHANNELS)
const key = fc.option(fc.constantFrom('k', 'l'), { nil: undefined, freq: 2 })
const except = fc.option(client, { nil: undefined, freq: 3 })
const room = fc.constantFrom(0, 1, 2, Number.POSITIVE_INFINITY)
const opening: fc.Arbitrary<Opening> = fc.record({
  replay: fc.constantFrom<Replay>('missed', 'missed', 'latest', 'all'),
  channels: fc.subarray(CHANNELS),
  comesBack: fc.boolean(),
  room,
})

/** A step by name and arguments, so that a counterexample can be read. */
const steps = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: fc.tuple(fc.constant('send' as const), target, key, except) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('remove' as const), client) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('removeMembers' as const), channel) },
    { weight: 4, arbitrary: fc.tuple(fc.constant('open' as const), client, opening) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('cut' as const), client) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('join' as const), client, channel) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('leave' as const), client, channel) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('block' as const), client, room) },
    { weight: 2, arbitrary: fc.tuple(fc.constant('unblock' as const), client) },
    { weight: 6, arbitrary: fc.tuple(fc.constant('turn' as const)) },
  ),
  // fast-check prefers short runs, in which nothing is ever evicted.
  { maxLength: 60, size: 'max' },
)

type Steps = Parameters<Parameters<typeof steps.map>[0]>[0]

const missed = { replay: 'missed', channels: [], comesBack: false, room: 0 } as const
const news: Opening = { ...missed, channels: ['#news'] }
const toAll = (times: number): Steps => Array(times).fill(['send', '*', undefined, undefined])

/** Runs that found a fault once and that chance seldom repeats. */
const RARE: Steps[] = [
  // History leaves the window between admission and opening.
  [...toAll(8), ['open', 'ada', { ...missed, replay: 'all' }], ...toAll(2)],
  // A channel is left after an entry of it was lost; then it is joined again.
  [
    ['open', 'ada', news],
    ['send', '#news', undefined, undefined],
    ...toAll(8),
    ['leave', 'ada', '#news'],
  ],
  [
    ['open', 'ada', news],
    ['send', '#news', undefined, undefined],
    ...toAll(1),
    ['leave', 'ada', '#news'],
    ...toAll(7),
    ['join', 'ada', '#news'],
  ],
  // A channel that was left gets more, which the reader must not get.
  [
    ['open', 'ada', news],
    ['send', '#news', undefined, undefined],
    ['leave', 'ada', '#news'],
    ['send', '#news', undefined, undefined],
  ],
  // What it had not read of a channel that it left is superseded.
  [
    ['open', 'ada', news],
    ['send', '#news', 'k', undefined],
    ['leave', 'ada', '#news'],
    ['send', '#news', 'k', undefined],
  ],
  // A reader that left a channel, which was forgotten since, ends.
  [
    ['open', 'bob', news],
    ['send', '#news', undefined, undefined],
    ['leave', 'bob', '#news'],
    ...toAll(8),
    ['open', 'ada', { ...news, room: 9 }],
    ['cut', 'bob'],
    ['send', '#news', undefined, undefined],
  ],
  // A client is cut in the middle of a history with a removal of itself.
  [
    ...toAll(3),
    ['remove', 'ada'],
    ...toAll(1),
    ['open', 'ada', { ...missed, replay: 'all', room: 1 }],
    ['cut', 'ada'],
    ['open', 'ada', { ...missed, comesBack: true, room: 9 }],
  ],
  // The same, and a part of that history leaves the window meanwhile.
  [
    ...toAll(3),
    ['remove', 'ada'],
    ...toAll(4),
    ['open', 'ada', { ...missed, replay: 'all', room: 1 }],
    ['cut', 'ada'],
    ['open', 'ada', { ...missed, comesBack: true }],
    ...toAll(6),
  ],
  // A client is cut in the middle of a history, and comes back with a channel that had a removal in there.
  [
    ...toAll(1),
    ['removeMembers', '#news'],
    ['open', 'ada', { ...missed, replay: 'all', room: 1 }],
    ['cut', 'ada'],
    ['open', 'ada', { ...news, comesBack: true }],
  ],
  // A removal leaves the window before a client that comes back gets to it.
  [
    ['open', 'ada', { ...missed, room: 9 }],
    ...toAll(1),
    ['remove', 'ada'],
    ['turn'],
    ...toAll(1),
    ['cut', 'ada'],
    ['open', 'ada', { ...missed, comesBack: true }],
    ...toAll(8),
  ],
]

test('whatever happens, each client gets its entries once and in order, or one gap that is true', {
  timeout: 60_000 + 5 * RUNS,
}, () => {
  fc.assert(
    fc.property(steps, steps => {
      const world = new World()
      for (const [name, ...args] of steps) (world[name] as (...args: unknown[]) => void)(...args)
      world.finish()
      for (const visit of world.visits) expect(judge(visit, world.sent)).toBeUndefined()
    }),
    {
      numRuns: RUNS,
      examples: RARE.map(steps => [steps]),
      ...(MODEL_SEED !== undefined && { seed: Number(MODEL_SEED), endOnFailure: true }),
    },
  )
})
