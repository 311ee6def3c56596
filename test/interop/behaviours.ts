/** What each client is put through, and which reason goes with what was seen. */
import { abridged, type Route, World, type WorldOptions } from './world.js'

/** What keeps a cell from being a ✓. */
export const REASONS = {
  stays: 'It does not reconnect.',
  lost: 'It stores the id when it reads the id line. An event that is cut off after that line is lost.',
  joined: 'It keeps the lines of an event that was cut off, and puts the next event after them.',
  doubled: 'It shows an event twice.',
  changed: 'It shows other data than was sent.',
  restarts: 'It reconnects without an id, so what was sent in between is lost.',
  returns: 'It opens a new stream after the end.',
  asks204: 'It asks again after every 204.',
  asks401: 'It asks again after every 401.',
  stops503: 'It stops for good at a 503.',
  ownDelay: 'It waits as long as its own options say, whatever `retry` says.',
  noGap: 'It does not show the `sse.gap` event.',
  gapEnds: 'It takes the gap for an error, and stops.',
  visible: 'It shows a heartbeat or comment as a message.',
  silent: 'It neither reconnected nor reported an end within 20 seconds.',
} as const

/** What makes a scenario pointless for a client, as was seen in it too. */
export const ABSENCES = {
  noStream: 'It has no stream of the pool that could be rotated.',
  noRetry: 'Its server sends no `retry`.',
  admitted: 'It takes no place in the pool, so a full one does not refuse it.',
} as const

export type Outcome = 'works' | keyof typeof REASONS | keyof typeof ABSENCES

/** Starts a client of the world, and returns what stops it. */
export type Start = (world: World) => Promise<() => unknown>

export interface Behaviour {
  readonly name: string
  readonly meaning: string
  /** It mostly waits for a delay of the client, so that it takes nobody's turn. */
  readonly isIdle?: boolean
  /** Options of the route that may help a client that fails without them. */
  readonly routes?: Record<string, Route>
  /** Whether it may help to close the client at the close event. */
  readonly mayClose?: boolean
  play(start: Start, options: WorldOptions): Promise<Outcome>
}

const numbered = (count: number) =>
  Array.from({ length: count }, (_, i) => `event ${String(i).padStart(2, '0')}`)

const LARGE = 'x'.repeat(300_000)

/** Starts the client in a world, and ends both when the scenario is done. */
async function within(
  start: Start,
  options: WorldOptions,
  play: (world: World) => Promise<Outcome>,
): Promise<Outcome> {
  const world = await new World(options).open()
  let stop = () => {}
  try {
    stop = (await start(world)) as () => void
    return await play(world)
  } finally {
    await stop()
    await world.close()
  }
}

/**
 * Resolves when the client has its stream, and has shown an event. Without that a cut could come before it has read its
 * first cursor: an error of the network discards what `fetch` has received and nobody has read.
 */
async function connected(world: World): Promise<void> {
  if (await world.until(() => world.isConnected)) {
    await world.send('hello')
    if (await world.until(() => world.messages.includes('hello'))) {
      world.shown.length = 0
      return
    }
  }
  throw new Error(`the client has not connected: ${JSON.stringify(world.requests)}`)
}

/** Sends the last event, and compares what was shown with what was sent. */
async function compare(world: World, sent: readonly string[]): Promise<Outcome> {
  await world.send('last')
  const shown = () => world.messages.filter(data => data !== 'later')
  const isDone = () => shown().at(-1)?.endsWith('last') === true || world.hasEnded
  const withoutId = () => world.requests.slice(1).filter(({ lastEventId }) => lastEventId === '')
  const hasRestarted = () => withoutId().some(({ status }) => status === 200)
  const hasBegun = await world.until(() => isDone() || hasRestarted())
  if (hasBegun && !isDone()) {
    // It may have begun at the end, and then shows only what is sent from now on.
    await world.send('later')
    await world.until(() => isDone() || world.messages.at(-1) === 'later')
  }
  const messages = shown()
  if (!messages.at(-1)?.endsWith('last')) {
    if (world.hasEnded) return 'stays'
    // What was sent while it was away did not arrive, not even later.
    return withoutId().length > 0 ? 'restarts' : 'silent'
  }
  const expected = [...sent, 'last'].map(abridged)
  if (JSON.stringify(messages) === JSON.stringify(expected)) return 'works'
  if (messages.some(data => data.includes('\n') && !expected.includes(data))) return 'joined'
  if (new Set(messages).size < messages.length) return 'doubled'
  if (expected.every(data => messages.includes(data))) return 'changed'
  return withoutId().length > 0 ? 'restarts' : 'lost'
}

/** Whether the newest of what was sent were shown, but not all. */
function endsAs(sent: readonly string[], { messages: all }: World): boolean {
  const messages = all.filter(data => data !== 'later')
  const newest = [...sent, 'last'].slice(-messages.length)
  return messages.length <= sent.length && JSON.stringify(messages) === JSON.stringify(newest)
}

/** Sends events through the cuts. */
function sendCut(sent: readonly string[]): Behaviour['play'] {
  return (start, options) =>
    within(start, options, async world => {
      await connected(world)
      await Promise.all(sent.map(data => world.send(data)))
      return compare(world, sent)
    })
}

/** Whether the client stays away when its stream has ended for good. */
function stopAfter(end: (world: World) => unknown): Behaviour['play'] {
  return (start, options) =>
    within(start, options, async world => {
      await connected(world)
      await world.send('first')
      await world.until(() => world.messages.includes('first'))
      await end(world)
      const later = () => world.requests.slice(1)
      const refused = () => later().filter(({ status }) => status === 204).length
      const hasReturned = () => later().some(({ status }) => status === 200)
      const wasSeen = await world.until(() => world.hasEnded || refused() > 2 || hasReturned())
      if (!wasSeen) return 'silent'
      // Ten times the delay that `retry` asks for: a client that only seems to have stopped is back by then.
      await world.until(() => refused() > 2 || hasReturned(), 200)
      if (hasReturned()) return 'returns'
      return refused() > 2 ? 'asks204' : 'works'
    })
}

/** A client of another id that takes the only place of the pool. */
async function occupy(world: World): Promise<() => Promise<unknown>> {
  // The returned function keeps the response: Node closes the stream of one that is garbage-collected.
  const response = await fetch(`${world.origin}${world.path}?id=bob`, {
    headers: { Accept: 'text/event-stream' },
  })
  return async () => {
    await response.body?.cancel()
    return world.until(() => world.pool.connections === 0)
  }
}

export const behaviours: readonly Behaviour[] = [
  {
    name: 'cut in a burst',
    meaning:
      'Three cuts among 20 events: in the data, in the id line, between two events. Every event arrives once, in order.',
    play: (start, options) =>
      sendCut(numbered(20))(start, {
        ...options,
        // Not all have ids.
        cuts: [/event 05/, /event 10.*\n(?:id|\n)/, /event 15.*\n(?:id: .+\n)?\nda/],
      }),
  },
  {
    name: 'cut twice',
    meaning:
      'A cut in the data, and another one when only the headers have arrived again. The client still knows where it was.',
    play: (start, options) =>
      sendCut(numbered(10))(start, {
        ...options,
        cuts: [/event 05/, /^HTTP[\s\S]*?\r\n\r\n/],
      }),
  },
  {
    name: 'cut at the last byte',
    meaning: 'A cut before the blank line of an event, of which only that line is missing.',
    play: (start, options) =>
      sendCut(numbered(10))(start, { ...options, cuts: [/event 05.*\n(?:id: .+\n|(?=\n))/] }),
  },
  {
    name: 'cut in a large event',
    meaning: 'A cut after 100,000 of 300,000 characters. The event arrives once, whole.',
    play: (start, options) => sendCut([LARGE])(start, { ...options, cuts: [/\bx{100000}/] }),
  },
  {
    name: 'quiet cursor',
    meaning:
      'A client that received only heartbeats is cut off, and gets the event that was sent while it was away.',
    play: (start, options) =>
      within(start, options, async world => {
        await connected(world)
        await world.pool.send('bob', 'not for ada')
        const { heartbeats } = world
        // The client has read one, with the id of that event, when there are some more of them.
        await world.until(() => world.heartbeats > heartbeats + 3)
        world.hold()
        world.cut()
        await world.until(() => world.pool.connections === 0)
        await world.send('missed')
        world.release()
        return compare(world, ['missed'])
      }),
  },
  {
    name: 'rotate',
    meaning:
      '`stream.rotate()`, or a process that drains: the stream ends cleanly, and the client comes back for the rest.',
    play: (start, options) =>
      within(start, options, async world => {
        await connected(world)
        const client = world.pool.get('ada')
        if (client === undefined) return 'noStream'
        for (const stream of client.streams) stream.rotate()
        await world.send('next')
        return compare(world, ['next'])
      }),
  },
  {
    name: 'end',
    meaning:
      '`stream.end()`, or the end of a run: the client stays away after the 204, without code in the page.',
    mayClose: true,
    play: stopAfter(world => world.finish()),
  },
  {
    name: 'remove',
    meaning: 'The same for `pool.remove(id)`.',
    mayClose: true,
    play: stopAfter(({ pool }) => pool.remove('ada')),
  },
  {
    name: 'gap',
    meaning:
      'What it missed has left the window. It shows `sse.gap` with the reason, and goes on with the next event.',
    play: (start, options) =>
      within(start, { ...options, pool: { window: { events: 5 } } }, async world => {
        await connected(world)
        world.hold()
        world.cut()
        await world.until(() => world.pool.connections === 0)
        const sent = numbered(10)
        for (const data of sent) await world.send(data)
        world.release()
        const hasGap = () =>
          world.shown.some(({ name, data }) => name === 'sse.gap' && data.includes('trimmed'))
        // What is sent before the gap is read belongs to the gap.
        await world.until(() => world.texts.join('').includes('sse.gap') || world.hasEnded)
        const outcome = await compare(world, [])
        if (outcome === 'stays' && hasGap()) return 'gapEnds'
        // What a run still has follows the gap.
        const goesOn = outcome === 'works' || (outcome === 'changed' && endsAs(sent, world))
        if (!goesOn) return outcome === 'changed' ? 'noGap' : outcome
        return hasGap() ? 'works' : 'noGap'
      }),
  },
  {
    name: 'multi-line',
    meaning: 'Data with line breaks, empty lines and leading spaces arrives unchanged.',
    play: (start, options) => {
      const data = 'one\n  two\n\n three: "3"\n'
      return within(start, options, async world => {
        await connected(world)
        await world.send(data)
        const outcome = await compare(world, [data])
        return outcome === 'joined' || outcome === 'lost' ? 'changed' : outcome
      })
    },
  },
  {
    name: 'retry',
    isIdle: true,
    meaning:
      'After `retry: 12000` it waits that long, give or take a third. By itself no client waits longer than 5 seconds.',
    play: (start, options) =>
      within(start, { ...options, route: { retry: 12_000 } }, async world => {
        await connected(world)
        if (!/^retry: 12000\n/m.test(world.texts.join(''))) return 'noRetry'
        const cutAt = performance.now()
        world.cut()
        const hasSettled = () => world.requests.length > 1 || world.hasEnded
        if (!(await world.until(hasSettled, 30_000))) return 'silent'
        const again = world.requests[1]
        if (again === undefined) return 'stays'
        return again.at - cutAt > 8000 ? 'works' : 'ownDelay'
      }),
  },
  {
    name: '503',
    isIdle: true,
    meaning: 'A full pool refuses it. It comes back when there is room.',
    routes: { "the route's `overflow: 'retry'`": { overflow: 'retry' } },
    play: (start, options) => {
      let isAdmitted = false
      return within(
        async world => {
          const leave = await occupy(world)
          const stop = await start(world)
          const isRefused = () => Object.values(world.pool.stats().refused).some(count => count > 0)
          await world.until(() => isRefused() || world.isConnected)
          isAdmitted = world.isConnected
          await leave()
          return stop
        },
        { ...options, pool: { maxClients: 1 } },
        async world => {
          if (isAdmitted) return 'admitted'
          const isBack = () => world.requests.length > 1 && world.pool.connections > 0
          if (!(await world.until(() => world.hasEnded || isBack(), 30_000))) return 'silent'
          return isBack() ? compare(world, []) : 'stops503'
        },
      )
    },
  },
  {
    name: '401',
    meaning: 'Its rights end while it is away. It stops, as nothing will change by asking again.',
    play: (start, options) =>
      within(start, options, async world => {
        await connected(world)
        const before = world.requests.length
        world.refuses = true
        world.cut()
        const asked = () => world.requests.length - before
        if (!(await world.until(() => world.hasEnded || asked() > 2))) return 'silent'
        await world.until(() => asked() > 2, 200)
        if (asked() === 0) return 'stays'
        return asked() > 2 ? 'asks401' : 'works'
      }),
  },
  {
    name: 'heartbeats',
    meaning: 'Heartbeats of both kinds, comments and `retry` lines call no listener of messages.',
    async play(start, options) {
      for (const heartbeat of ['event', 'comment'] as const) {
        const pool = { heartbeat, pingInterval: 20 }
        const outcome = await within(start, { ...options, pool }, async world => {
          await connected(world)
          await world.until(() => world.heartbeats > 3)
          await world.send('first')
          for (const stream of world.pool.get('ada')?.streams ?? []) stream.comment('a comment')
          await world.send('second', 30)
          const compared = await compare(world, ['first', 'second'])
          return compared === 'works' || compared === 'stays' ? compared : 'visible'
        })
        if (outcome !== 'works') return outcome
      }
      return 'works'
    },
  },
]
