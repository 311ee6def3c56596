import { describe, expect, test } from 'vitest'
import { Window } from '../../src/delivery/window.js'
import { FakeReader } from '../helpers/interior.js'

function open() {
  const window = new Window(
    { compare: (a, b) => Number(a) - Number(b) },
    { events: 100, bytes: 1e6 },
  )
  const send = (target: string) => {
    const id = String(window.tail + 1)
    window.append({ id, nonce: id, target, frame: 'data: x\n\n' })
  }
  const news = window.target('#news')
  const reader = new FakeReader('ada', [window.everyone, window.target('@ada')])
  reader.start(window, 'missed')
  const join = () => {
    reader.join(window, [news])
    news.add(reader)
  }
  const leave = () => {
    reader.leave(window, news)
    news.delete(reader)
  }
  const read = (upTo = window.tail) => {
    const next = reader.next(window, upTo)
    return next && 'slots' in next ? next.slots.map(({ id }) => id) : next
  }
  return { window, send, reader, news, join, leave, read }
}

describe('a reader that is behind', () => {
  test('reads a channel from where it joined, also if a direct send keeps it from reading at first', () => {
    const { send, join, read } = open()
    for (const target of ['*', '#news', '*']) send(target)
    join()
    send('#news')
    expect(read(0)).toBeUndefined()
    expect(read()).toEqual(['1', '3', '4'])
  })

  test('reads a channel that it leaves up to there, then no longer', () => {
    const { send, reader, news, join, leave, read } = open()
    join()
    send('#news')
    leave()
    send('#news')
    send('*')
    expect(read()).toEqual(['1', '3'])
    expect(read()).toBeUndefined()
    expect(reader.targets).not.toContain(news)
    expect(reader.leftAt).toBeUndefined()
  })

  test('reads a channel that it leaves twice up to where it left it first', () => {
    const { send, join, leave, read } = open()
    join()
    send('#news')
    leave()
    send('#news')
    leave()
    send('*')
    expect(read()).toEqual(['1', '3'])
  })

  test('reads a channel once, and on, that it leaves and joins again', () => {
    const { send, reader, news, join, leave, read } = open()
    join()
    send('#news')
    leave()
    send('#news')
    join()
    expect(reader.targets.filter(target => target === news)).toHaveLength(1)
    expect(read()).toEqual(['1', '2'])
  })
})

test('a reader that has read everything leaves a channel at once', () => {
  const { window, send, reader, news, join, leave, read } = open()
  join()
  send('#news')
  expect(read()).toEqual(['1'])
  leave()
  expect(reader.targets.map(({ name }) => name)).toEqual(['*', '@ada'])
  expect(reader.leftAt).toBeUndefined()
  expect(reader.isAtTail(window)).toBe(true)
  expect(news.size).toBe(0)
})
