/**
 * A model of the roster: processes and members as plain sets. Whatever the messages, processes that started at
 * different times agree, and the changes that pages are told of lead to what the model says.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Change, type Message, Roster } from '../../src/presence/roster.js'

const PROCESSES = ['p', 'q', 'r']
const IDS = ['ada', 'bob']
const CHANNELS = ['x', 'y']

const anyStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      does: fc.constant('set' as const),
      process: fc.constantFrom(...PROCESSES),
      channel: fc.constantFrom(...CHANNELS),
      id: fc.constantFrom(...IDS),
      state: fc.constantFrom('1', '2'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      does: fc.constant('unset' as const),
      process: fc.constantFrom(...PROCESSES),
      channel: fc.constantFrom(...CHANNELS),
      id: fc.constantFrom(...IDS),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      does: fc.constant('dead' as const),
      process: fc.constantFrom('p', 'q'),
      isStale: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      does: fc.constant('hello' as const),
      process: fc.constantFrom('p', 'q'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('newcomer' as const) }) },
)

test('processes that start at any time agree with a model, and so do pages', () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), steps => {
      // `r` declares the others dead, and so never dies.
      const rosters = [Roster.foundedBy('r', 0)]
      const model = new Map<string, Map<string, { state: string; at: number }>>([['r', new Map()]])
      const pages = new Map<string, string>()
      let n = 0
      const lastOf = new Map([['r', 0]])
      const tell = ({ type, channel, id, state }: Change) => {
        const place = `${channel} ${id}`
        // A join of a member that is there, or a leave of one that is not, would be told twice.
        expect(pages.has(place)).toBe(type !== 'join')
        if (type === 'leave') pages.delete(place)
        else pages.set(place, state)
      }
      const apply = (message: Message) => {
        const [first, ...others] = rosters.map(roster => roster.apply(message))
        for (const changes of others) expect(changes).toEqual(first)
        first?.forEach(tell)
      }
      for (const step of steps) {
        n += 1
        if (step.does === 'newcomer') {
          const copy = JSON.parse(JSON.stringify(rosters[0]?.parts(1 + (n % 40))))
          rosters.push(Roster.from(copy))
          continue
        }
        const { process } = step
        if (step.does === 'dead') {
          const seen = (lastOf.get(process) ?? 0) - (step.isStale ? 1 : 0)
          apply({ from: 'r', n, says: 'dead', who: process, seen })
          if (!step.isStale) model.delete(process)
          lastOf.set('r', n)
          continue
        }
        if (step.does === 'hello') {
          apply({ from: process, n, says: 'hello' })
          if (!model.has(process)) model.set(process, new Map())
          lastOf.set(process, n)
          continue
        }
        const { channel, id } = step
        const members = model.get(process)
        const place = `${channel} ${id}`
        if (step.does === 'set') {
          apply({ from: process, n, says: 'change', set: [[channel, id, step.state]], unset: [] })
          members?.set(place, { state: step.state, at: n })
        } else {
          apply({ from: process, n, says: 'change', set: [], unset: [[channel, id]] })
          members?.delete(place)
        }
        if (members !== undefined) lastOf.set(process, n)
      }
      const expected = new Map<string, { state: string; at: number }>()
      for (const members of model.values()) {
        for (const [place, member] of members) {
          const other = expected.get(place)
          if (other === undefined || other.at < member.at) expected.set(place, member)
        }
      }
      const states = [...expected].map(([place, { state }]) => [place, state]).sort()
      for (const roster of rosters) {
        const present = CHANNELS.flatMap(channel =>
          Array.from(roster.members(channel), ({ id, state }) => [`${channel} ${id}`, state]),
        )
        expect(present.sort()).toEqual(states)
      }
      expect([...pages].sort()).toEqual(states)
      const numbers = rosters.map(({ pending }) => pending.map(({ nonce }) => nonce))
      for (const nonces of numbers) expect(nonces).toEqual(numbers[0])
    }),
    { numRuns: 500 },
  )
})

test('what was told is no longer pending, and a message of a process that was declared dead has no effect', () => {
  const roster = Roster.foundedBy('p', 0)
  roster.apply({ from: 'q', n: 1, says: 'hello' })
  const ada = [['x', 'ada', '1']] as const
  roster.apply({ from: 'q', n: 2, says: 'change', set: ada, unset: [] })
  expect(roster.pending.map(({ number }) => number)).toEqual([1])
  roster.apply({ from: 'p', n: 1, says: 'alive', told: 1 })
  expect(roster.pending).toEqual([])
  roster.apply({ from: 'p', n: 2, says: 'dead', who: 'q', seen: 1 })
  expect([...roster.members('x')]).toHaveLength(1)
  roster.apply({ from: 'p', n: 3, says: 'dead', who: 'q', seen: 2 })
  expect(roster.apply({ from: 'q', n: 3, says: 'change', set: ada, unset: [] })).toEqual([])
  expect([...roster.members('x')]).toEqual([])
})
