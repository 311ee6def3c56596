import { describe, expect, it } from 'vitest'
import { encodeEntry } from '../../src/nats/entry.js'
import { Discontinuity, Tail } from '../../src/nats/tail.js'

const CREATED = '2026-01-02T03:04:05.123456789Z'

function facts(last_seq: number, created = CREATED) {
  return { created, state: { messages: last_seq, first_seq: 1, last_seq } }
}

function message(sequence: number, nonce: string, pending = 0) {
  const data = Buffer.from(encodeEntry({ nonce, target: '*', frame: nonce }))
  return { sequence, pending, data }
}

/** A tail that has read the entries `a` and `b` of a stream. */
function tailOfTwo() {
  const told: string[] = []
  const tail = new Tail({
    maxEntries: 100,
    windowBytes: 1000,
    onReset: () => {},
    onEmpty: () => {},
    sink: {
      reset: (window, reason) => told.push(`${reason}: ${window.map(({ frame }) => frame)}`),
      append: entries => told.push(...entries.map(({ frame }) => frame)),
    },
  })
  tail.begin(facts(1))
  tail.accept(message(1, 'a'))
  tail.accept(message(2, 'b'))
  return { tail, told }
}

describe('reading that is resumed', () => {
  it('starts at the last entry read, and continues if it is unchanged', () => {
    const { tail, told } = tailOfTwo()
    expect(tail.begin(facts(3))).toBe(2)
    tail.accept(message(2, 'b', 1))
    tail.accept(message(3, 'c'))
    expect(told).toEqual(['boot: a', 'b', 'c'])
  })

  it('detects another stream if the same sequence has another nonce', () => {
    const { tail, told } = tailOfTwo()
    tail.begin(facts(3))
    expect(() => tail.accept(message(2, 'y', 1))).toThrow(Discontinuity)
    expect(tail.begin(facts(3))).toBe(1)
    for (const [i, nonce] of ['x', 'y', 'z'].entries()) tail.accept(message(i + 1, nonce, 2 - i))
    expect(told).toEqual(['boot: a', 'b', 'replaced: x,y,z'])
  })

  it('detects another stream if the creation time differs by nanoseconds', () => {
    const { tail, told } = tailOfTwo()
    expect(tail.begin(facts(2, CREATED.replace('789Z', '79Z')))).toBe(1)
    tail.accept(message(1, 'a', 1))
    tail.accept(message(2, 'b'))
    expect(told).toEqual(['boot: a', 'b', 'replaced: a,b'])
  })

  it('detects another stream if it is shorter', () => {
    const { tail, told } = tailOfTwo()
    expect(tail.begin(facts(1))).toBe(1)
    tail.accept(message(1, 'x'))
    expect(told).toEqual(['boot: a', 'b', 'replaced: x'])
  })

  it('still reports another stream if it was interrupted before it could', () => {
    const { tail, told } = tailOfTwo()
    const other = facts(4, '2026-01-02T03:04:06Z')
    tail.begin(other)
    tail.accept(message(1, 'w', 3))
    tail.begin(other)
    for (const [i, nonce] of ['w', 'x', 'y', 'z'].entries()) {
      tail.accept(message(i + 1, nonce, 3 - i))
    }
    expect(told).toEqual(['boot: a', 'b', 'replaced: w,x,y,z'])
  })
})

describe('facts of the stream that were requested', () => {
  it('before another entry arrived are not those of a shorter stream', () => {
    const { tail } = tailOfTwo()
    const { position } = tail
    const answer = facts(2)
    tail.accept(message(3, 'c'))
    expect(tail.isOther(answer, position)).toBe(false)
    expect(tail.isOther(facts(1), position)).toBe(true)
  })
})
