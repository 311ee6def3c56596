/** Direct sends that wait: which are joined, what each waits for, and what memory they take. */
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { DirectSends } from '../../src/stream/direct.js'
import { rawGet } from '../helpers/app.js'
import { usedMegabytes } from '../helpers/gc.js'
import { streamOf } from '../helpers/interior.js'
import { serveStreams, testPool } from '../helpers/server.js'

const behind = (position: number, round = 0) => ({ position, round })
const ignore = () => {}

/** Takes all out; returns the text of each write. */
function textsOf(sends: DirectSends): string[] {
  const texts: string[] = []
  while (sends.after !== undefined) texts.push(sends.shift().text)
  return texts
}

describe('direct sends', () => {
  test('are joined while they wait for the same entries, and keep their order', () => {
    const sends = new DirectSends()
    for (const text of ['a', 'b']) sends.push(text, behind(1), undefined, ignore)
    for (const text of ['c', 'd']) sends.push(text, behind(2), undefined, ignore)
    expect(sends.bytes).toBe(4)
    expect(sends.after).toBe(1)
    expect(textsOf(sends)).toEqual(['ab', 'cd'])
    expect(sends.bytes).toBe(0)
  })

  test('are joined up to 64 KiB, so that one write stays moderate', () => {
    const sends = new DirectSends()
    for (let i = 0; i < 300; i++) sends.push('x'.repeat(1024), behind(1), undefined, ignore)
    const lengths = textsOf(sends).map(text => text.length)
    expect(lengths.reduce((sum, length) => sum + length)).toBe(300 * 1024)
    expect(Math.max(...lengths)).toBe(64 * 1024)
    expect(lengths).toHaveLength(5)
  })

  test('are never joined with one that closes the stream', () => {
    const sends = new DirectSends()
    sends.push('last words', behind(1), undefined, ignore)
    sends.push('end', behind(1), 'end', ignore)
    sends.push('too late', behind(1), undefined, ignore)
    expect(textsOf(sends)).toEqual(['last words', 'end', 'too late'])
  })

  test('are joined while they wait for the same sends in flight, but not once those have settled', () => {
    const sends = new DirectSends()
    const first = sends.push('a', behind(1, 1), undefined, ignore)
    if (first === undefined) throw new Error('There is no send that it could have been joined with')
    first.pending = 1
    expect(sends.push('b', behind(1, 1), undefined, ignore)).toBeUndefined()
    expect(sends.push('c', behind(1, 2), undefined, ignore)).toBeDefined()
    first.settled(2)
    expect(textsOf(sends)).toEqual(['ab', 'c'])

    const settled = sends.push('d', behind(1, 3), undefined, ignore)
    expect(settled?.pending).toBe(0)
    expect(sends.push('e', behind(1, 3), undefined, ignore)).toBeDefined()
  })
})

describe('a direct send behind sends in flight', () => {
  function waiting(pending: number) {
    const sends = new DirectSends()
    const onReady = vi.fn()
    const send = sends.push('direct', behind(5, 1), undefined, onReady)
    if (send === undefined) throw new Error('There is no send that it could have been joined with')
    send.pending = pending
    return { sends, send, onReady }
  }

  test('waits until all of them have settled, then for the newest of their entries', () => {
    const { sends, send, onReady } = waiting(3)
    for (const position of [8, 0]) {
      send.settled(position)
      expect(sends.after).toBe(Number.POSITIVE_INFINITY)
      expect(onReady).not.toHaveBeenCalled()
    }
    send.settled(7)
    expect(sends.after).toBe(8)
    expect(onReady).toHaveBeenCalledTimes(1)
  })

  test('waits for none of them after cap(), and is not ready again when they settle', () => {
    const { sends, send, onReady } = waiting(2)
    send.settled(9)
    sends.cap(6)
    expect(sends.after).toBe(6)
    send.settled(20)
    expect(sends.after).toBe(6)
    expect(onReady).not.toHaveBeenCalled()
  })

  test('waits for all that cap() allows while it is unknown where their entries are', () => {
    const { sends } = waiting(1)
    sends.cap(9)
    expect(sends.after).toBe(9)
  })

  test('that waits for an older position than that of cap() keeps its own', () => {
    const { sends, send } = waiting(1)
    send.settled(0)
    sends.cap(9)
    expect(sends.after).toBe(5)
    sends.cap(3)
    expect(sends.after).toBe(3)
  })

  test('still waits for them when the window is refilled, then for everything in the new window', () => {
    const { sends, send } = waiting(1)
    sends.renumber(40)
    expect(sends.after).toBe(Number.POSITIVE_INFINITY)
    send.settled(38)
    expect(sends.after).toBe(40)
  })
})

describe('the memory of direct sends', () => {
  test('is released as each goes out, though others wait', () => {
    const sends = new DirectSends()
    sends.push('first', behind(0), undefined, ignore)
    const before = usedMegabytes()
    for (let i = 1; i <= 100_000; i++) {
      // Written and joined again, so that each text is a string of its own: 100 MB in all.
      const text = `${i}`.padEnd(1000, '.').split('').join('')
      sends.push(text, behind(i), undefined, ignore)
      sends.shift()
    }
    expect(sends.bytes).toBeLessThan(2000)
    expect(usedMegabytes() - before).toBeLessThan(3)
  })

  test('is what waits, for a client that is always some seconds behind', async () => {
    const pool = testPool({ maxBufferedBytes: 64 * 1024 * 1024 })
    const { port } = await serveStreams({ pool })
    const socket = await rawGet(port, '/?id=ada')
    while (pool.connections === 0) await turn()
    const stream = streamOf(pool, 'ada')
    while (!stream.isOpen) await turn()
    let received = 0
    let sent = 0
    socket.pause()
    socket.on('data', data => {
      received += data.length
      if (sent - received < 12e6) socket.pause()
    })
    const send = () => {
      stream.face.send('é'.repeat(35_000) + sent)
      sent += 70_000
    }
    while (sent < 16e6) send()
    const before = usedMegabytes()
    for (let i = 0; i < 3000; i++) {
      send()
      socket.resume()
      await turn()
    }
    // 210 MB went through, and the client never caught up.
    expect(stream.bufferedBytes).toBeGreaterThan(0)
    // About as much waits as before, so memory must have stayed the same: it grows by 2 MB at most.
    expect(usedMegabytes() - before).toBeLessThan(6)
  })
})
