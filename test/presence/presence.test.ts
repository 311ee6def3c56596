import { once } from 'node:events'
import { type ClientPool, type Entry, type EventLog, type LogSink, SseError } from 'koa-sse-pool'
import { Presence } from 'koa-sse-pool/presence'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { deferred } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** A log of several processes, each of which can be killed or frozen: it then neither reads nor writes. */
function processes(
  count: number,
  { grace = 0, lease = 200, remembers = Number.POSITIVE_INFINITY } = {},
) {
  const shared = sharedLog()
  const ids = new Map<string, string>()
  const start = () => {
    const state: State = { isDead: false, appends: Number.POSITIVE_INFINITY }
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
        const known = ids.get(entry.nonce)
        if (known !== undefined && !state.isDead) return known
        const store = async () => {
          const id = await engine.append(entry)
          ids.set(entry.nonce, id)
          const [oldest] = ids.keys()
          if (ids.size > remembers) ids.delete(oldest as string)
          return id
        }
        if (entry.target.startsWith('#')) state.appends -= 1
        if (state.isDead || state.appends < 0) throw new SseError('ERR_SSE_LOG_DOWN', 'killed')
        if (state.crash === undefined) return store()
        state.crash.appends -= 1
        if (state.crash.appends > 0) return store()
        // The entry is lost with the process, or it is stored and the process does not learn of it.
        state.isDead = true
        if (state.crash.when === 'after') await store()
        throw new SseError('ERR_SSE_LOG_DOWN', 'killed')
      },
    }
    const pool = testPool({ log })
    pool.on('error', () => {})
    const presence = new Presence({ pool, grace, lease })
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

interface State {
  isDead: boolean
  /** How many events it may still append. */
  appends: number
  /** It is killed by its nth append, before the log has stored the entry or after. */
  crash?: { appends: number; when: 'before' | 'after' }
}

interface Process {
  pool: ClientPool
  presence: Presence
  state: State
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

/** A page that applies every event to a map, as the docs say. */
async function mapOf(origin: string, id: string, headers = {}) {
  const client = await connect(origin, `/?id=${id}`, { headers })
  const members = () => {
    const map = new Map<string, unknown>()
    for (const { event, data } of client.events) {
      const { id, state, isFirst, members = [] } = JSON.parse(data) ?? {}
      if (event === 'presence.snapshot') {
        if (isFirst) map.clear()
        for (const member of members) map.set(member.id, member.state)
      } else if (event === 'presence.reset') map.clear()
      else if (event === 'presence.leave') map.delete(id)
      else if (event?.startsWith('presence.')) map.set(id, state)
    }
    return map
  }
  return { client, members }
}

describe('a page', () => {
  const serve = (process: { pool: ClientPool; presence: Presence }) =>
    serveStreams({ pool: process.pool, channels: () => ['room'] }, ctx => {
      process.presence.track(ctx.sse, 'room', { of: ctx.sse.id })
    })

  test('gets all members when it opens, also those whose change has left the window', async () => {
    const pool = testPool({ window: { events: 10 } })
    const presence = new Presence({ pool })
    const ids = Array.from({ length: 1000 }, (_, index) => `client ${index}`)
    for (const id of ids) presence.track(stream(id), 'room', { of: id })
    await until(() => expect(presence.members('room')).toHaveLength(1000))
    const { origin } = await serve({ pool, presence })
    const { client, members } = await mapOf(origin, 'ada')
    await until(() =>
      expect(members()).toEqual(new Map([...ids, 'ada'].map(id => [id, { of: id }]))),
    )
    const parts = client.events.filter(({ event }) => event === 'presence.snapshot')
    expect(parts.length).toBeGreaterThan(1)
  })

  test('gets all members again after a gap', async () => {
    const pool = testPool({ window: { events: 10 } })
    const presence = new Presence({ pool })
    const { origin } = await serve({ pool, presence })
    const first = await mapOf(origin, 'ada')
    await until(() => expect(first.members().has('ada')).toBe(true))
    await until(() => expect(first.client.events.some(({ id }) => id)).toBe(true))
    const cursor = first.client.events.findLast(({ id }) => id)?.id as string
    first.client.close()
    const ids = Array.from({ length: 50 }, (_, index) => `client ${index}`)
    for (const id of ids) presence.track(stream(id), 'room', { of: id })
    await until(() => expect(presence.members('room')).toHaveLength(51))
    for (let i = 0; i < 20; i++) await pool.broadcast('x')
    const again = await mapOf(origin, 'ada', { 'Last-Event-ID': cursor })
    await until(() => expect(again.client.events.map(({ event }) => event)).toContain('sse.gap'))
    await until(() => expect([...again.members().keys()].sort()).toEqual([...ids, 'ada'].sort()))
  })

  test('has the members of the roster whatever the interleaving of its snapshot, changes and other sends', async () => {
    const { all } = processes(2)
    await Promise.all(all.map(({ presence }) => presence.ready()))
    const { origin } = await serve(all[1])
    const pages: Awaited<ReturnType<typeof mapOf>>[] = []
    for (let round = 0; round < 30; round++) {
      const guests = [0, 1, 2].map(index => stream(`guest ${(round + index) % 7}`))
      for (const guest of guests) all[0].presence.track(guest, 'room', { of: guest.id })
      void all[1].pool.channel('room').send({ event: 'message', data: 1 })
      const opening = mapOf(origin, `page${round}`)
      void all[1].pool.channel('room').send({ event: 'message', data: 2 })
      for (const guest of guests) guest.close()
      pages.push(await opening)
    }
    all[0].presence.track(stream('end'), 'room', { of: 'end' })
    await until(() => expect(idsOf(all[1])).toContain('end'))
    for (const { members } of pages) {
      await until(() => {
        const now = all[1].presence.members('room').map(({ id, state }) => [id, state] as const)
        expect([...members()].sort()).toEqual(now.sort())
      })
    }
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
    // A process that is still asking for the roster would announce bob only after the other one has died.
    await Promise.all(all.map(({ presence }) => presence.ready()))
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

  test('wherever the process that sends the changes is killed, pages get each change once and in order', async () => {
    // Enough appends for several changes and signs of life.
    const crashes = Array.from({ length: 10 }, (_, index) => index + 1).flatMap(appends =>
      (['before', 'after'] as const).map(when => ({ appends, when })),
    )
    await Promise.all(
      crashes.map(async crash => {
        const { all, start } = processes(1)
        await all[0].presence.ready()
        const others = [start(), start()] as const
        await Promise.all(others.map(({ presence }) => presence.ready()))
        const told = page(others[1].pool, 'room')
        const streams = ['a', 'b', 'c', 'd', 'e', 'f'].map(stream)
        all[0].state.crash = crash
        for (const each of streams) others[0].presence.track(each, 'room')
        // A page that is behind gets only the newest change of a member.
        await until(() => expect(told).toContain('join f'))
        for (const each of streams.slice(0, 3)) each.close()
        await until(() => expect(all[0].state.isDead).toBe(true))
        await until(() => expect(told).toContain('leave c'))
        for (const each of others) await until(() => expect(idsOf(each)).toEqual(['d', 'e', 'f']))
        others[0].presence.track(stream('end'), 'room')
        await until(() => expect(told).toContain('join end'))
        expect(told, JSON.stringify(crash)).toEqual([
          ...['a', 'b', 'c', 'd', 'e', 'f'].map(id => `join ${id}`),
          ...['a', 'b', 'c'].map(id => `leave ${id}`),
          'join end',
        ])
      }),
    )
  })

  test('after a takeover pages agree, though the log has forgotten some of the nonces', async () => {
    await Promise.all(
      [8, 12, 16, 20, 24, 28, 32].map(async remembers => {
        const { all, start } = processes(1, { remembers, lease: 1000 })
        await all[0].presence.ready()
        const others = [start(), start()] as const
        await Promise.all(others.map(({ presence }) => presence.ready()))
        const told = page(others[1].pool, 'room')
        const streams = ['a', 'b', 'c', 'd', 'e', 'f'].map(stream)
        all[0].state.crash = { appends: 12, when: 'after' }
        for (const each of streams) others[0].presence.track(each, 'room')
        await until(() => expect(told).toContain('join f'))
        for (const each of streams) each.close()
        await until(() => expect(all[0].state.isDead).toBe(true))
        for (const each of others) await until(() => expect(idsOf(each)).toEqual([]))
        others[0].presence.track(stream('end'), 'room')
        await until(() => expect(told).toContain('join end'))
        const members = new Set<string>()
        for (const [change, id = ''] of told.map(what => what.split(' '))) {
          if (change === 'leave') members.delete(id)
          else members.add(id)
        }
        expect([...members], `remembers ${remembers}: ${told}`).toEqual(['end'])
      }),
    )
  })

  test('a process that starts gets 20,000 members, in entries of at most 1 MB', {
    timeout: 150_000,
  }, async () => {
    const { all, shared, start } = processes(1, { lease: 4000 })
    await all[0].presence.ready()
    const ids = Array.from({ length: 20_000 }, (_, index) => `client ${index}`)
    const state = { name: 'Ada "the first" 你好'.repeat(20) }
    let joined = 0
    const isFull = new Promise<void>(resolve => {
      all[0].presence.on('join', () => {
        joined += 1
        if (joined === ids.length) resolve()
      })
    })
    for (const id of ids) all[0].presence.track(stream(id), 'room', state)
    await isFull
    const before = shared.entries.length
    const late = start()
    await late.presence.ready()
    expect(late.presence.members('room')).toEqual(all[0].presence.members('room'))
    const parts = shared.entries.slice(before).filter(({ frame }) => frame.includes('"state"'))
    expect(parts.length).toBeGreaterThan(10)
    for (const { frame } of parts) expect(Buffer.byteLength(frame)).toBeLessThan(1_000_000)
  })

  test('a process that ends gives its members the grace period to move, and does not wait for the lease', async () => {
    const { all, shared } = processes(3, { grace: 300, lease: 3000 })
    await all[0].presence.ready()
    all[0].presence.track(stream('ada'), 'room')
    all[0].presence.track(stream('bob'), 'room')
    const told = page(all[2].pool, 'room')
    await until(() => expect(idsOf(all[2])).toEqual(['ada', 'bob']))
    await all[0].pool.close()
    expect(idsOf(all[1])).toEqual(['ada', 'bob'])
    all[1].presence.track(stream('bob'), 'room')
    const [channel, { id }] = await once(all[1].presence, 'leave')
    expect([channel, id]).toEqual(['room', 'ada'])
    const messages = shared.entries.map(({ frame }) => frame)
    const since = messages.slice(messages.findIndex(frame => frame.includes('"bye"')))
    // A process that is killed is declared dead after more than five signs of life of another.
    const beats = since.filter(frame => frame.includes('"alive"'))
    expect(beats.length).toBeLessThan(5)
    for (const each of all.slice(1)) await until(() => expect(idsOf(each)).toEqual(['bob']))
    all[2].presence.track(stream('end'), 'room')
    await until(() => expect(told).toContain('join end'))
    expect(told.filter(what => what.startsWith('leave'))).toEqual(['leave ada'])
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
