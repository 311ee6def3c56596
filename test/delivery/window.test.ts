import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Member, Slot, Target } from '../../src/delivery/target.js'
import { type CursorState, Window, type WindowListener } from '../../src/delivery/window.js'
import type { Entry } from '../../src/log/log.js'

/** Ids are `e1`, `e2`, …; the part after a dash is a nonce, which the order ignores. */
const compare = (a: string, b: string) => orderOf(a) - orderOf(b)
const orderOf = (id: string) => Number(/^e(\d+)(-|$)/.exec(id)?.[1])

type TestReader = CursorState & Member

function makeWindow(
  options: { events?: number; bytes?: number; age?: number } = {},
  listener: Partial<WindowListener> = {},
) {
  const window = new Window({ compare }, { events: 1000, bytes: 1e6, ...options })
  window.listener = { appended: () => {}, evicting: () => {}, ...listener }
  let count = 0
  const append = (target: string, { key, frame }: { key?: string; frame?: string } = {}) => {
    count += 1
    const id = `e${count}`
    const entry: Entry = { id, nonce: id, target, frame: frame ?? `data: ${id}\n\n` }
    window.append(key === undefined ? entry : { ...entry, key })
    return count
  }
  return { window, append }
}

function makeReader(window: Window, names: string[], given: Partial<TestReader> = {}): TestReader {
  const reader = {
    id: 'ada',
    cursor: 0,
    targets: names.map(name => window.target(name)),
    joinedAt: undefined,
    leftAt: undefined,
    openedAt: 0,
    liveAfter: 0,
    latestOnly: false,
    endWith: () => {},
    ...given,
  }
  for (const target of reader.targets) target.add(reader)
  return reader
}

const idsOf = (window: Window, reader: CursorState, upTo = window.tail) =>
  window.next(reader, upTo)?.slots.map(({ id }) => id)

describe('a window finds', () => {
  test('an entry only by its whole id', () => {
    const { window, append } = makeWindow()
    for (let i = 0; i < 100; i++) append('*')
    expect(window.find('e1')).toBe(1)
    expect(window.find('e57')).toBe(57)
    expect(window.find('e100')).toBe(100)
    for (const id of [
      'e0',
      'e101',
      'e057',
      'e57-forged',
      '',
      'x',
      'e5.7',
      `e57${' '}`,
      'e'.repeat(65),
    ]) {
      expect(window.find(id), id).toBeUndefined()
    }
  })

  test('nothing by what cannot be an id, and does not let the engine compare it', () => {
    const compared: string[] = []
    const window = new Window(
      {
        compare: (a, b) => {
          compared.push(a, b)
          return compare(a, b)
        },
      },
      { events: 10, bytes: 1000 },
    )
    window.append({ id: 'e1', nonce: 'e1', target: '*', frame: 'data: x\n\n' })
    const empty = new Window(
      {
        compare: () => {
          throw new Error('an empty window has no id to compare')
        },
      },
      { events: 10, bytes: 1000 },
    )
    expect([empty.hasReached('e1'), empty.willReach('e1')]).toEqual([false, true])
    for (const id of ['', ' e1', 'e1 ', 'e1.e1', 'é1', 'e'.repeat(65)]) {
      expect(window.find(id), id).toBeUndefined()
      expect(window.isTrimmed(id), id).toBe(false)
    }
    expect(compared).toEqual([])
    for (const id of ['e1', 'aZ0_-', 'e'.repeat(64)]) window.find(id)
    expect(compared).toHaveLength(6)
  })

  test('nothing while it is empty', () => {
    const { window } = makeWindow()
    expect(window.find('e1')).toBeUndefined()
    expect(window.isTrimmed('e1')).toBe(false)
    expect(window.hasReached('e1')).toBe(false)
    expect(window.hasReached(null)).toBe(true)
    expect(window.tailId).toBeUndefined()
  })

  test('what it keeps and not what it has evicted, even after its array was moved', () => {
    const { window, append } = makeWindow({ events: 100 })
    for (let i = 1; i <= 1000; i++) {
      append('*')
      if (i <= 100) continue
      expect(window.find(`e${i - 100}`)).toBeUndefined()
      expect(window.isTrimmed(`e${i - 100}`)).toBe(true)
      expect(window.isTrimmed(`e${i - 99}`)).toBe(false)
      expect(window.find(`e${i - 99}`)).toBe(i - 99)
      expect(window.idAt(i - 99)).toBe(`e${i - 99}`)
      expect(window.idAt(i - 100)).toBeUndefined()
      expect(window.idAt(i + 1)).toBeUndefined()
      expect(window.start).toBe(i - 100)
    }
    expect(window.isTrimmed('foreign')).toBe(false)
    expect(window.hasReached('e1000')).toBe(true)
    expect(window.hasReached('e1001')).toBe(false)
    expect(window.willReach('e1000')).toBe(false)
    expect(window.willReach('e1001')).toBe(true)
  })

  test('the members of a target by its name, and how many targets of a kind have any', () => {
    const { window, append } = makeWindow()
    makeReader(window, ['*', '#news', '@ada'])
    makeReader(window, ['*', '#news', '#sport', '@bob'])
    append('#nobody')
    append('@#')
    expect(window.sizeOf('#news')).toBe(2)
    expect(window.sizeOf('#sport')).toBe(1)
    expect(window.sizeOf('#nobody')).toBe(0)
    expect(window.sizeOf('#unknown')).toBe(0)
    expect(window.countTargets('#')).toBe(2)
    expect(window.countTargets('@')).toBe(2)
  })
})

describe('a window keeps', () => {
  test('entries up to a number of events or of bytes, whichever is reached first', () => {
    const { window, append } = makeWindow({ events: 10, bytes: 1000 })
    for (let i = 0; i < 20; i++) append('*')
    expect(window.size.events).toBe(10)
    append('*', { frame: `data: ${'é'.repeat(450)}\n\n` })
    expect(window.size.bytes).toBeLessThanOrEqual(1000)
    expect(window.size.events).toBeLessThan(10)
    // An entry larger than the whole limit is kept alone.
    append('*', { frame: 'x'.repeat(5000) })
    expect(window.size.events).toBe(1)
  })

  test('keys within its limit of bytes too, and forgets them with their entries (fault 73)', () => {
    const { window, append } = makeWindow({ events: 10, bytes: 1000 })
    for (let i = 0; i < 20; i++) append('*', { key: `${'é'.repeat(120)}${i}` })
    expect(window.size.events).toBe(3)
    expect(window.size.bytes).toBeGreaterThan(3 * 240)
    for (let i = 0; i < 10; i++) append('*')
    expect(window.size.events).toBe(10)
    expect(window.size.bytes).toBeLessThan(400)
  })

  test('a mark as a cursor, and shows it to no reader', () => {
    const { window, append } = makeWindow()
    const reader = makeReader(window, ['*', '@ada'])
    append('')
    append('?from a newer version')
    expect(window.size.events).toBe(0)
    expect(window.find('e1')).toBe(1)
    expect(idsOf(window, reader)).toBeUndefined()
  })

  test('no target that has neither members nor entries', () => {
    const { window, append } = makeWindow({ events: 2 })
    append('@bob')
    const bob = window.target('@bob')
    append('*')
    append('*')
    expect(bob.first).toBeUndefined()
    expect(window.target('@bob')).not.toBe(bob)

    const ada = window.target('@ada')
    append('@ada')
    window.release(ada)
    expect(window.target('@ada')).toBe(ada)
    window.clear()
    expect(window.target('@ada')).not.toBe(ada)
  })

  test('rising positions when it is cleared', () => {
    const { window, append } = makeWindow()
    const reader = makeReader(window, ['*'])
    append('*')
    window.clear()
    expect(window.size).toEqual({ events: 0, bytes: 0 })
    expect(window.find('e1')).toBeUndefined()
    expect(append('*')).toBe(window.tail)
    expect(idsOf(window, { ...reader, cursor: 1 })).toEqual(['e2'])
  })

  test('no memory of what was lost when it is cleared: by positions that would be a loss for all', () => {
    const { window, append } = makeWindow({ events: 1 })
    const reader = makeReader(window, ['*'])
    const eve = makeReader(window, ['*'], { id: 'eve' })
    for (let i = 0; i < 3; i++) append('*')
    append('*\neve')
    append('*')
    expect([window.hasLost(reader), window.hasLost(eve)]).toEqual([true, true])
    window.clear()
    expect([window.hasLost(reader), window.hasLost(eve)]).toEqual([false, false])
  })

  test('exactly as many bytes as it may, counted as they go over the wire', () => {
    const bytes = Buffer.byteLength('data: e1\nid: e1\n\n')
    const { window, append } = makeWindow({ bytes: 2 * bytes })
    append('*')
    append('*')
    expect(window.size).toEqual({ events: 2, bytes: 2 * bytes })
    append('*')
    expect(window.size).toEqual({ events: 2, bytes: 2 * bytes })
    expect(window.find('e1')).toBeUndefined()
  })

  test('marks like entries, though they are not counted as events', () => {
    const { window, append } = makeWindow({ events: 2 })
    append('')
    append('*')
    expect(window.size.events).toBe(1)
    append('*')
    append('*')
    expect(window.size.events).toBe(2)
  })

  test('the target of everyone even while it has neither members nor entries', () => {
    const { window } = makeWindow()
    const { everyone } = window
    window.release(everyone)
    window.clear()
    expect(window.target('*')).toBe(everyone)
  })

  test('no key, neighbour or batch of an entry that it has evicted', () => {
    const { window, append } = makeWindow({ events: 2 })
    makeReader(window, ['#news'], { id: 'bob' })
    const reader = makeReader(window, ['#news'])
    const news = window.target('#news')
    append('#news', { key: 'a' })
    append('#news', { key: 'b' })
    window.next(reader, 2)
    expect(news.batches?.size).toBe(1)
    append('*')
    expect([...(news.newestByKey?.keys() ?? [])]).toEqual(['b'])
    expect(news.batches?.size).toBe(0)
    expect(news.first?.previous).toBeUndefined()
    append('*')
    expect([news.first, news.last]).toEqual([undefined, undefined])
  })

  test('no batch for a target with a single member, nor for more than 32 cursors', () => {
    const { window, append } = makeWindow()
    const ada = makeReader(window, ['@ada', '*'])
    const bob = makeReader(window, ['*'], { id: 'bob' })
    for (let i = 0; i < 100; i++) append('*')
    let most = 0
    for (let cursor = 0; cursor < 99; cursor++) {
      window.next({ ...bob, cursor }, 100)
      most = Math.max(most, window.everyone.batches?.size ?? 0)
    }
    expect(most).toBe(32)
    const cursor = append('@ada') - 1
    expect(idsOf(window, { ...ada, cursor })).toEqual(['e101'])
    expect(window.target('@ada').batches).toBeUndefined()
  })

  test('working when its listener throws, as a listener of the app may', () => {
    const listener = vi.fn()
    const { window, append } = makeWindow({}, { appended: listener })
    listener.mockImplementationOnce(() => {
      throw new Error('no')
    })
    expect(() => append('*')).toThrow('no')
    expect(window.end).toBe(1)
    append('*')
    expect(listener).toHaveBeenCalledTimes(2)
    expect(window.end).toBe(2)
  })

  test('an entry until every reader had the chance to get it', () => {
    const evicted: string[] = []
    const { window, append } = makeWindow(
      { events: 2 },
      { evicting: target => evicted.push(`${target.name} ${target.first?.id}`) },
    )
    for (const target of ['*', '@ada', '#news', '@ada']) append(target)
    expect(evicted).toEqual(['* e1', '@ada e2'])
    expect(window.size.events).toBe(2)
  })
})

describe('what waits for a reader', () => {
  test('is what its targets hold beyond its cursor, in the order of the log', () => {
    const { window, append } = makeWindow()
    for (const target of ['*', '@ada', '#news', '@bob', '@ada', '#other', '*']) append(target)
    const reader = makeReader(window, ['*', '@ada', '#news'])
    expect(idsOf(window, reader)).toEqual(['e1', 'e2', 'e3', 'e5', 'e7'])
    expect(idsOf(window, { ...reader, cursor: 2 })).toEqual(['e3', 'e5', 'e7'])
    expect(idsOf(window, reader, 3)).toEqual(['e1', 'e2', 'e3'])
    expect(idsOf(window, { ...reader, cursor: 7 })).toBeUndefined()
  })

  test('is the same batch for all readers with the same cursor', () => {
    const { window, append } = makeWindow()
    append('*')
    append('*')
    const ada = makeReader(window, ['*', '@ada'])
    const bob = makeReader(window, ['*', '@bob'], { id: 'bob' })
    const batch = window.next(ada, 2)
    expect(window.next(bob, 2)).toBe(batch)
    expect(batch?.chunk(true)).toBe(window.next(bob, 2)?.chunk(true))
    expect(batch?.chunk(true).text).toBe('data: e1\nid: e1\n\ndata: e2\nid: e2\n\n')
    expect(batch?.chunk(false).text).toBe('data: e1\n\ndata: e2\n\n')
    append('*')
    expect(window.next(bob, 3)).not.toBe(batch)
  })

  test('is shared by all readers but those that an entry excepts', () => {
    const { window, append } = makeWindow()
    append('*')
    append('*\nada')
    append('*')
    const ada = makeReader(window, ['*', '@ada'])
    const bob = makeReader(window, ['*', '@bob'], { id: 'bob' })
    expect(idsOf(window, ada)).toEqual(['e1', 'e3'])
    expect(idsOf(window, bob)).toEqual(['e1', 'e2', 'e3'])
  })

  test('is only the newest entry of each key and target', () => {
    const { window, append } = makeWindow()
    append('*', { key: 'a' })
    append('*', { key: 'b' })
    append('*')
    append('@ada', { key: 'a' })
    append('*', { key: 'a' })
    append('*')
    const both = makeReader(window, ['*', '@ada'])
    const everyone = makeReader(window, ['*'], { id: 'bob' })
    expect(idsOf(window, both)).toEqual(['e2', 'e3', 'e4', 'e5', 'e6'])
    expect(idsOf(window, everyone)).toEqual(['e2', 'e3', 'e5', 'e6'])
  })

  test('is not superseded by a newer entry that excepts this reader', () => {
    const { window, append } = makeWindow()
    append('*', { key: 'a' })
    append('*\nada', { key: 'a' })
    append('*\nbob', { key: 'a' })
    const reader = (id: string) => makeReader(window, ['*', `@${id}`], { id })
    expect(idsOf(window, reader('ada'))).toEqual(['e3'])
    expect(idsOf(window, reader('bob'))).toEqual(['e2'])
    expect(idsOf(window, reader('eve'))).toEqual(['e3'])
  })

  test('of a channel that it has left ends there, and what superseded it by then is not included', () => {
    const { window, append } = makeWindow()
    append('#news', { key: 'a' })
    append('#news', { key: 'a' })
    append('#news')
    const reader = makeReader(window, ['@ada', '#news'])
    const left = (position: number) => ({
      ...reader,
      leftAt: new Map([[window.target('#news'), position]]),
    })
    expect(idsOf(window, left(2))).toEqual(['e2'])
    expect(idsOf(window, left(1))).toEqual(['e1'])
  })

  test('does not include what a channel held before the reader joined', () => {
    const { window, append } = makeWindow()
    append('#news')
    append('@ada')
    append('#news')
    const reader = makeReader(window, ['@ada', '#news'])
    const joinedAt = new Map<Target, number>([[window.target('#news'), 2]])
    expect(idsOf(window, { ...reader, joinedAt })).toEqual(['e2', 'e3'])
  })

  test('is, for "latest", the newest of each key and the newest without one, then everything live', () => {
    const { window, append } = makeWindow()
    append('*')
    append('*', { key: 'a' })
    append('*', { key: 'a' })
    append('*')
    append('@ada')
    const latest = { openedAt: window.tail, latestOnly: true }
    append('*')
    append('*')
    const reader = makeReader(window, ['*', '@ada'], latest)
    expect(idsOf(window, reader)).toEqual(['e3', 'e4', 'e5', 'e6', 'e7'])
  })

  test('ends at its removal, unless that happened before it returned', () => {
    const { window, append } = makeWindow()
    append('@ada')
    append('-ada', { frame: 'data: bye\n\n' })
    append('@ada')
    const old = makeReader(window, ['@ada'])
    const batch = window.next(old, window.tail)
    expect(batch?.slots.map(({ id }) => id)).toEqual(['e1'])
    expect(batch).toMatchObject({ position: 2, removal: { frame: 'data: bye\n\n' } })
    const returned = makeReader(window, ['@ada'], { openedAt: 2 })
    expect(idsOf(window, returned)).toEqual(['e1', 'e3'])
    expect(window.next(returned, window.tail)?.removal).toBeUndefined()
  })

  test('comes in batches of moderate size', () => {
    const { window, append } = makeWindow({ bytes: 1e8 })
    for (let i = 0; i < 100; i++) append('*', { frame: 'x'.repeat(10_000) })
    const reader = makeReader(window, ['*'])
    const seen: string[] = []
    let cursor = 0
    for (
      let batch = window.next(reader, 100);
      batch;
      batch = window.next({ ...reader, cursor }, 100)
    ) {
      expect(batch.bytes).toBeLessThan(300_000)
      seen.push(...batch.slots.map(({ id }) => id))
      cursor = batch.position
    }
    expect(cursor).toBe(100)
    expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => `e${i + 1}`))
  })
})

describe('the removal that ends a reader', () => {
  test('is the newest that came after what it has read, and while it was a member', () => {
    const { window, append } = makeWindow()
    append('-ada')
    append('!news')
    append('*')
    const reader = makeReader(window, ['*', '#news', '@ada'])
    const news = window.target('#news')
    const found = (given: Partial<CursorState>, after?: number) =>
      window.removalFor({ ...reader, ...given }, after)?.id
    expect(found({})).toBe('e2')
    expect(found({}, 1)).toBe('e2')
    expect(found({}, 2)).toBeUndefined()
    expect(found({ joinedAt: new Map([[news, 1]]) })).toBe('e2')
    expect(found({ joinedAt: new Map([[news, 2]]) })).toBe('e1')
    expect(found({ leftAt: new Map([[news, 2]]) })).toBe('e2')
    expect(found({ leftAt: new Map([[news, 1]]) })).toBe('e1')
  })

  test('is marked in the ids of a history as long as a channel has one in the window', () => {
    const { window, append } = makeWindow({ events: 3 })
    const idsInHistory = () => {
      const reader = makeReader(window, ['*'], { openedAt: window.tail, cursor: window.start })
      const batch = window.next(reader, window.tail)
      return batch?.slots.map(slot => batch.idOf(slot))
    }
    append('-ada')
    append('*')
    append('*')
    expect(idsInHistory()).toEqual(['e2', 'e3'])
    append('!news')
    append('*')
    expect(idsInHistory()).toEqual(['e3.e5', 'e5'])
    for (let i = 0; i < 3; i++) append('*')
    expect(idsInHistory()).toEqual(['e6', 'e7', 'e8'])
  })

  test('cannot be marked once the entry at which its reader opened was evicted', () => {
    const { window, append } = makeWindow({ events: 1 })
    append('*')
    append('*')
    expect(window.suffixAt(1, true)).toBe('')
    expect(window.suffixAt(2, true)).toBe('.e2.latest')
    expect(window.suffixAt(2, false)).toBe('.e2')
  })
})

test('a batch takes entries until it has 256 KiB, and only ends early if something is left', () => {
  const { window, append } = makeWindow({ bytes: 1e8 })
  const frame = (id: string, bytes: number) => 'x'.repeat(bytes - id.length - 'id: \n'.length)
  const KIB = 1024
  append('*', { frame: frame('e1', 128 * KIB) })
  append('*', { frame: frame('e2', 128 * KIB) })
  append('@bob')
  const reader = makeReader(window, ['*'])
  expect(window.next(reader, 3)).toMatchObject({ position: 3, bytes: 256 * KIB })
  append('*')
  expect(window.next(reader, 4)).toMatchObject({ position: 2, bytes: 256 * KIB })
  const { window: other, append: appendTo } = makeWindow({ bytes: 1e8 })
  appendTo('*', { frame: frame('e1', 128 * KIB) })
  appendTo('*', { frame: frame('e2', 128 * KIB - 1) })
  appendTo('*')
  expect(other.next(makeReader(other, ['*']), 3)?.slots).toHaveLength(3)
})

describe('an evicted entry', () => {
  test('is lost only for a reader of its target that had not reached it', () => {
    const { window, append } = makeWindow({ events: 3 })
    const ada = makeReader(window, ['*', '@ada'])
    const bob = makeReader(window, ['*', '@bob'], { id: 'bob' })
    append('@ada')
    for (let i = 0; i < 5; i++) append('@eve')
    expect(window.hasLost(ada)).toBe(true)
    expect(window.hasLost({ ...ada, cursor: 1 })).toBe(false)
    expect(window.hasLost(bob)).toBe(false)
  })

  test('is not lost if a newer one supersedes it', () => {
    const { window, append } = makeWindow({ events: 2 })
    const ada = makeReader(window, ['@ada'])
    append('@ada', { key: 'k' })
    append('@ada', { key: 'k' })
    append('*')
    expect(window.hasLost(ada)).toBe(false)
    expect(idsOf(window, ada)).toEqual(['e2'])
    append('*')
    expect(window.hasLost(ada)).toBe(true)
  })

  test('is lost for a reader that has left its channel, as what superseded it is not for that reader', () => {
    const { window, append } = makeWindow({ events: 2 })
    const ada = makeReader(window, ['@ada', '#news'])
    const leftAt = new Map([[window.target('#news'), 1]])
    append('#news', { key: 'k' })
    append('#news', { key: 'k' })
    append('*')
    expect(window.hasLost(ada)).toBe(false)
    expect(window.hasLost({ ...ada, leftAt })).toBe(true)
    expect(window.hasLost({ ...ada, leftAt, cursor: 1 })).toBe(false)
  })

  test('that left a client out is not lost for it, whatever superseded it', () => {
    const { window, append } = makeWindow({ events: 2 })
    const [ada, bob] = ['ada', 'bob'].map(id => makeReader(window, ['*'], { id })) as [
      TestReader,
      TestReader,
    ]
    append('*\nada', { key: 'k' })
    append('*\nada', { key: 'k' })
    append('@eve')
    expect([window.hasLost(ada), window.hasLost(bob)]).toEqual([false, false])
    append('@eve')
    expect([window.hasLost(ada), window.hasLost(bob)]).toEqual([false, true])
  })

  test('that only one client lost is remembered for up to a thousand clients, beyond that as lost for all', () => {
    const { window, append } = makeWindow({ events: 2 })
    const reader = (id: string) => makeReader(window, ['*'], { id })
    const [first, last, other] = ['client-0', 'client-1000', 'ada'].map(reader) as [
      TestReader,
      TestReader,
      TestReader,
    ]
    // Each supersedes the one before it, except for the client that it leaves out.
    append('*', { key: 'typing' })
    for (let i = 0; i <= 1000; i++) append(`*\nclient-${i}`, { key: 'typing' })
    expect(window.hasLost(first)).toBe(true)
    expect(window.hasLost({ ...first, cursor: 1 })).toBe(false)
    expect(window.hasLost(last)).toBe(false)
    expect(window.hasLost(other)).toBe(false)
    // This is one client too many. An unnecessary gap is better than a loss without one.
    append('*', { key: 'typing' })
    for (const each of [first, last, other]) expect(window.hasLost(each)).toBe(true)
    expect(window.hasLost({ ...other, cursor: window.start })).toBe(false)
  })

  test('is not lost for a reader that joined its channel later', () => {
    const { window, append } = makeWindow({ events: 1 })
    append('#news')
    const ada = makeReader(window, ['@ada', '#news'])
    append('*')
    expect(window.hasLost(ada)).toBe(true)
    const joinedAt = new Map<Target, number>([[window.target('#news'), 1]])
    expect(window.hasLost({ ...ada, joinedAt })).toBe(false)
  })
})

test('a removal kept for a slow reader does not keep what was sent to that id after it', () => {
  const { window, append } = makeWindow({ events: 2 })
  let removal: Slot | undefined
  makeReader(window, ['@ada'], {
    endWith: slot => {
      removal = slot
    },
  })
  append('-ada')
  expect(removal?.frame).toBe('data: e1\n\n')
  for (let i = 0; i < 10; i++) append('@ada')
  expect(removal?.next).toBe(undefined)
})

describe('an entry for several channels', () => {
  test('has one position, is in a batch once, and leaves all of them together', () => {
    const { window, append } = makeWindow({ events: 3 })
    const both = makeReader(window, ['#news', '#sports', '@ada'])
    const other = makeReader(window, ['#sports', '@bob'], { id: 'bob' })
    append('#news\n\t#sports\n\t#weather')
    append('#sports')
    expect(idsOf(window, both)).toEqual(['e1', 'e2'])
    expect(idsOf(window, other)).toEqual(['e1', 'e2'])
    expect(window.size.events).toBe(2)
    expect(window.size.bytes).toBe('data: e1\n\n'.length * 2 + 2 * 'id: e1\n'.length)
    append('*')
    append('*')
    expect(window.sizeOf('#weather')).toBe(0)
    expect(window.target('#news').first).toBeUndefined()
    expect([both, other].map(reader => window.hasLost(reader))).toEqual([true, true])
    expect(window.hasLost({ ...other, cursor: 1 })).toBe(false)
  })

  test('is superseded by its key in each channel by itself', () => {
    const { window, append } = makeWindow()
    append('#news\n\t#sports', { key: 'k' })
    append('#news', { key: 'k' })
    const reader = (names: string[]) => idsOf(window, makeReader(window, names))
    expect(reader(['#news'])).toEqual(['e2'])
    expect(reader(['#sports'])).toEqual(['e1'])
    expect(reader(['#news', '#sports'])).toEqual(['e1', 'e2'])
  })

  test('wakes the readers of each when it comes, and when it is about to leave', () => {
    const calls: string[] = []
    const { append } = makeWindow(
      { events: 1 },
      {
        appended: ({ name }) => calls.push(`appended ${name}`),
        evicting: ({ name }) => calls.push(`evicting ${name}`),
      },
    )
    append('#a\n\t#b')
    append('*')
    expect(calls).toEqual([
      'appended #a',
      'appended #b',
      'evicting #a',
      'evicting #b',
      'appended *',
    ])
  })
})

describe('of evicted entries that leave several clients out', () => {
  test('only those that do not are a loss to a client, whatever the others leave out', () => {
    const clients = ['ada', 'bob', 'eve', 'sam']
    const targets = ['*', '*\nada', '*\nbob', '*\nada\nbob', '*\nbob\neve', '*\nada\nbob\neve']
    for (let round = 0; round < 200; round++) {
      const { window, append } = makeWindow({ events: 1 })
      const readers = clients.map(id => makeReader(window, ['*'], { id }))
      const lost = new Map<string, number>()
      for (let n = 1; n <= 6; n++) {
        const target = targets[(round * 7 + n * n * (round % 5)) % targets.length] as string
        append(target)
        for (const id of clients) if (!target.split('\n').includes(id)) lost.set(id, n)
      }
      append('@nobody')
      for (const reader of readers) {
        const newest = lost.get(reader.id) ?? 0
        expect(window.hasLost({ ...reader, cursor: newest })).toBe(false)
        if (newest > 0) expect(window.hasLost({ ...reader, cursor: newest - 1 })).toBe(true)
      }
    }
  })

  test('one that was superseded is a loss to the clients that the newer one leaves out', () => {
    const { window, append } = makeWindow({ events: 1 })
    append('*\nsam', { key: 'k' })
    append('*\nada\nbob\nsam', { key: 'k' })
    const lost = ['ada', 'bob', 'sam'].map(id => window.hasLost(makeReader(window, ['*'], { id })))
    expect(lost).toEqual([true, true, false])
  })
})

describe('a window with a limit of age', () => {
  let now = 0
  const start = () => {
    now = 1000
    vi.spyOn(performance, 'now').mockImplementation(() => now)
  }
  afterEach(() => {
    vi.restoreAllMocks()
  })

  test('evicts what is older, when something is appended and when it is told to', () => {
    start()
    const { window, append } = makeWindow({ age: 100 })
    append('*')
    now += 60
    append('@ada')
    now += 39
    window.prune()
    expect(window.size.events).toBe(2)
    now += 1
    window.prune()
    expect([window.find('e1'), window.find('e2')]).toEqual([undefined, 2])
    now += 60
    append('*')
    expect([window.find('e2'), window.find('e3')]).toEqual([2, 3])
    expect(window.size.events).toBe(1)
    append('*')
    expect(window.find('e2')).toBeUndefined()
    expect(window.size.events).toBe(2)
  })

  test('keeps the place of the newest as a cursor, and nothing else of it', () => {
    start()
    const { window, append } = makeWindow({ age: 100 })
    append('*\nbob', { key: 'k' })
    append('#news\n\t#sports', { key: 'k' })
    const slow = makeReader(window, ['*', '#sports', '@ada'])
    const quiet = makeReader(window, ['@bob'], { id: 'bob' })
    now += 100
    window.prune()
    window.prune()
    expect(window.tailId).toBe('e2')
    expect(window.find('e2')).toBe(2)
    expect(window.isTrimmed('e1')).toBe(true)
    expect(window.idAt(2)).toBe('e2')
    expect(window.start).toBe(2)
    expect(window.size).toEqual({ events: 0, bytes: 'id: e2\n'.length })
    expect([slow, quiet].map(reader => window.hasLost(reader))).toEqual([true, false])
    expect(window.hasLost({ ...slow, cursor: 2 })).toBe(false)
    expect(window.countTargets('#')).toBe(1)
    append('#sports')
    expect(idsOf(window, { ...slow, cursor: 2 })).toEqual(['e3'])
    now += 100
    append('*')
    expect(window.size.events).toBe(1)
    expect(window.start).toBe(3)
  })

  test('offers each entry to its readers first, whatever these do then', () => {
    start()
    const evicted: string[] = []
    let hasSent = false
    const { window, append } = makeWindow({ age: 100 })
    window.listener = {
      appended: () => {},
      evicting: target => {
        evicted.push(target.name)
        if (evicted.length === 1) window.prune()
        if (target.name !== '@ada' || hasSent) return
        hasSent = true
        append('*')
      },
    }
    append('*')
    append('@ada')
    now += 100
    window.prune()
    expect(evicted).toEqual(expect.arrayContaining(['*', '@ada']))
    expect(window.tail).toBe(3)
    expect(window.find('e3')).toBe(3)
    expect(window.size.events).toBe(1)
  })

  test('reads no clock without one', () => {
    const clock = vi.spyOn(performance, 'now')
    const { window, append } = makeWindow()
    append('*')
    window.prune()
    expect(clock).not.toHaveBeenCalled()
  })
})
