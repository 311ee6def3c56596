import { once } from 'node:events'
import { type ClientPool, type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'
import { Presence } from 'koa-sse-pool/presence'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** A log of several processes, each of which can be killed or frozen: it then neither reads nor writes. */
function processes(count: number, { grace = 0 } = {}) {
  const shared = sharedLog()
  const start = () => {
    const state = { isDead: false, appends: Number.POSITIVE_INFINITY }
    const held: Entry[] = []
    let own: LogSink
    const engine = shared.open()
    const log: EventLog = {
      ...engine,
      open(sink) {
        own = sink
        const append: LogSink['append'] = entries => {
          if (state.isDead) held.push(...entries)
          else sink.append(entries)
        }
        return engine.open({
          append,
          reset: (...args) => sink.reset(...args),
          state: isUp => sink.state(isUp),
          error: error => sink.error(error),
        })
      },
      async append(entry) {
        // As every engine does: an entry that is there is not stored again.
        const stored = shared.entries.find(({ nonce }) => nonce === entry.nonce)
        if (stored !== undefined && !state.isDead) return stored.id
        if (entry.target.startsWith('#')) state.appends -= 1
        if (state.isDead || state.appends < 0) throw new SseError('ERR_SSE_LOG_DOWN', 'killed')
        return engine.append(entry)
      },
    }
    const pool = testPool({ log })
    pool.on('error', () => {})
    const presence = new Presence({ pool, grace, lease: 200 })
    onTestFinished(() => presence.close())
    /** A process that was frozen reads what it has not read. */
    const thaw = () => {
      state.isDead = false
      own.append(held.splice(0))
    }
    return { pool, presence, state, thaw }
  }
  const all = Array.from({ length: count }, start)
  return { shared, start, all: all as [Process, Process, Process] }
}

interface Process {
  pool: ClientPool
  presence: Presence
  state: { isDead: boolean; appends: number }
  thaw: () => void
}

function stream(id: string) {
  const closed = deferred<void>()
  return { id, closed: closed.promise, close: () => closed.resolve() }
}

/** What pages of a channel are told, from a moment on. */
function page(pool: ClientPool, channel: string) {
  const told: string[] = []
  void (async () => {
    for await (const { event, data } of pool.events({ channels: [channel] })) {
      const id = data === 'null' ? '' : ` ${JSON.parse(data).id}`
      told.push(`${event?.replace('presence.', '')}${id}`)
    }
  })()
  return told
}

const idsOf = ({ presence }: { presence: Presence }, channel = 'room') =>
  presence
    .members(channel)
    .map(({ id }) => id)
    .sort()

const until = (check: () => void) => vi.waitFor(check, { timeout: 10_000, interval: 5 })

describe('on one process', () => {
  test('a client is one member however many tabs it has, and its pages are told once', async () => {
    const pool = testPool()
    const presence = new Presence({ pool, grace: 0 })
    const told = page(pool, 'room')
    const tabs = [stream('ada'), stream('ada')] as const
    for (const tab of tabs) presence.track(tab, 'room', { name: 'Ada' })
    await once(presence, 'join')
    expect(presence.members('room')).toEqual([{ id: 'ada', state: { name: 'Ada' } }])
    await until(() => expect(told).toEqual(['join ada']))
    presence.track(tabs[0], 'room', { name: 'Ada', isTyping: true })
    await once(presence, 'update')
    await until(() => expect(told).toContain('update ada'))
    tabs[0].close()
    await tabs[0].closed
    tabs[1].close()
    expect(await once(presence, 'leave')).toEqual([
      'room',
      { id: 'ada', state: { name: 'Ada', isTyping: true } },
    ])
    expect(presence.members('room')).toEqual([])
    await until(() => expect(told).toEqual(['join ada', 'update ada', 'leave ada']))
  })

  test('a client that is back within the grace period has not left', async () => {
    const pool = testPool()
    const presence = new Presence({ pool, grace: 60_000 })
    const told = page(pool, 'room')
    const first = stream('ada')
    presence.track(first, 'room')
    await once(presence, 'join')
    await until(() => expect(told).toEqual(['join ada']))
    first.close()
    await first.closed
    const second = stream('ada')
    presence.track(second, 'room')
    presence.untrack(second, 'room')
    await once(presence, 'leave')
    await until(() => expect(told).toEqual(['join ada', 'leave ada']))
  })

  test('wrong options and states are refused', () => {
    const pool = testPool()
    const wrong = (options: unknown) => () => new Presence(options as { pool: ClientPool })
    expect(wrong(pool)).toThrow('Presence: got a ClientPool; write new Presence({ pool })')
    expect(wrong({})).toThrow('option "pool" must be a ClientPool')
    expect(wrong({ pool, lease: 5 })).toThrow('option "lease" must be whole milliseconds')
    expect(wrong({ pool, grace: -1 })).toThrow('option "grace" must be whole milliseconds')
    const presence = new Presence({ pool })
    expect(wrong({ pool })).toThrow('this pool has a Presence already')
    const ada = stream('ada')
    expect(() => presence.track(ada, 'room', () => {})).toThrow('state must be JSON')
    expect(() => presence.track(ada, 'room', 'x'.repeat(4096))).toThrow('got 4098')
    expect(() => presence.track(ada, '')).toThrow('channel must not be empty')
  })
})

describe('on several processes', () => {
  test('all of them know the members of all, also one that starts later', async () => {
    const { all, start } = processes(2)
    all[0].presence.track(stream('ada'), 'room')
    all[1].presence.track(stream('bob'), 'room')
    for (const each of all) await until(() => expect(idsOf(each)).toEqual(['ada', 'bob']))
    const late = start()
    await late.presence.ready()
    expect(idsOf(late)).toEqual(['ada', 'bob'])
  })

  test('a client that moves to another process is neither told as gone nor as new', async () => {
    const { all } = processes(2)
    const old = stream('ada')
    all[0].presence.track(old, 'room')
    await until(() => expect(idsOf(all[1])).toEqual(['ada']))
    const told = page(all[1].pool, 'room')
    all[1].presence.track(stream('ada'), 'room')
    all[1].presence.track(stream('bob'), 'room')
    await until(() => expect(idsOf(all[0])).toEqual(['ada', 'bob']))
    old.close()
    all[0].presence.track(stream('cleo'), 'room')
    await until(() => expect(told).toContain('join cleo'))
    expect(told.filter(what => what.endsWith('ada') && what !== 'join ada')).toEqual([])
    expect(idsOf(all[0])).toEqual(['ada', 'bob', 'cleo'])
  })

  test('when a process is killed, its members leave, once, and those that moved stay', async () => {
    const { all } = processes(3)
    all[0].presence.track(stream('ada'), 'room')
    all[0].presence.track(stream('bob'), 'room')
    all[1].presence.track(stream('bob'), 'room')
    const told = page(all[2].pool, 'room')
    await until(() => expect(told).toContain('join bob'))
    await until(() => expect(told).toContain('join ada'))
    all[0].state.isDead = true
    for (const each of all.slice(1)) await until(() => expect(idsOf(each)).toEqual(['bob']))
    all[1].presence.track(stream('end'), 'room')
    await until(() => expect(told).toContain('join end'))
    expect(told.filter(what => what.startsWith('leave'))).toEqual(['leave ada'])
  })

  test('what the teller had not sent when it was killed, the next one sends, and nothing twice', async () => {
    const { all } = processes(3)
    await Promise.all(all.map(({ presence }) => presence.ready()))
    const told = page(all[2].pool, 'room')
    const [first] = all
    all[1].presence.track(stream('zoe'), 'room')
    await until(() => expect(told).toContain('join zoe'))
    // Whichever process tells: it sends one more event, and dies.
    for (const { state } of all) state.appends = 1
    for (const id of ['a', 'b', 'c']) all[1].presence.track(stream(id), 'room')
    await until(() => expect(told).toContain('join a'))
    first.state.isDead = true
    for (const { state } of all) state.appends = Number.POSITIVE_INFINITY
    all[1].presence.track(stream('d'), 'room')
    await until(() => expect(told).toContain('join d'))
    expect(told.filter(what => what !== 'reset')).toEqual(
      ['zoe', 'a', 'b', 'c', 'd'].map(id => `join ${id}`),
    )
  })

  test('a process that was declared dead and is not joins again with its members', async () => {
    const { all } = processes(2)
    all[0].presence.track(stream('ada'), 'room')
    await until(() => expect(idsOf(all[1])).toEqual(['ada']))
    all[0].state.isDead = true
    await until(() => expect(idsOf(all[1])).toEqual([]))
    all[0].thaw()
    await until(() => expect(idsOf(all[1])).toEqual(['ada']))
    await until(() => expect(idsOf(all[0])).toEqual(['ada']))
  })
})
