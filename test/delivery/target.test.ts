import { describe, expect, test } from 'vitest'
import { type Member, Slot, Target } from '../../src/delivery/target.js'

const makeMember = (): Member => ({ endWith: () => {} })

function makeSlot(target: Target, position: number, removal = false): Slot {
  const id = `e${position}`
  return new Slot(position, { id, nonce: id, target: target.name, frame: '' }, target, removal)
}

describe('a target', () => {
  test('keeps its members when something that is none leaves, whether it has one or several', () => {
    const target = new Target('#news')
    const [ada, bob, stranger] = [makeMember(), makeMember(), makeMember()] as const
    target.delete(stranger)
    target.add(ada)
    target.add(ada)
    target.delete(stranger)
    expect([...target.members()]).toEqual([ada])
    target.add(bob)
    target.delete(stranger)
    expect([target.size, target.has(ada), target.has(stranger)]).toEqual([2, true, false])
    target.delete(ada)
    target.delete(bob)
    expect([target.size, target.isRead]).toEqual([0, false])
  })

  test('is read as long as one subscriber is left', () => {
    const target = new Target('#news')
    const [first, second] = [makeMember(), makeMember()] as const
    target.unsubscribe(first)
    target.subscribe(first)
    target.subscribe(second)
    target.unsubscribe(first)
    expect([...target.subscribers()]).toEqual([second])
    expect([target.isRead, target.isForgettable, target.size]).toEqual([true, false, 0])
    target.unsubscribe(second)
    expect([target.isRead, target.isForgettable]).toEqual([false, true])
  })

  test('knows its newest removal until that is evicted', () => {
    const target = new Target('@ada')
    const slots = [1, 2, 3, 4].map(position => makeSlot(target, position, position === 3))
    for (const slot of slots) target.append(slot)
    target.evictFirst()
    target.evictFirst()
    expect(target.lastRemoval).toBe(slots[2])
    target.evictFirst()
    expect(target.lastRemoval).toBeUndefined()
    expect(target.first).toBe(slots[3])
  })
})
