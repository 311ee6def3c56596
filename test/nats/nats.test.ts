import { setImmediate as turn } from 'node:timers/promises'
import { DiscardPolicy, jetstream, RetentionPolicy } from '@nats-io/jetstream'
import { type NatsLogOptions, natsLog } from 'koa-sse-pool/nats'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { EventLog } from '../../src/log/log.js'
import { encodeEntry } from '../../src/nats/entry.js'
import { append, NatsServer, watch } from '../helpers/nats.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

let server: NatsServer
beforeAll(async () => {
  server = await NatsServer.start()
})
afterAll(() => server.stop())

const PENDING = new Promise<never>(() => {})

let count = 0
const newName = () => `stream${count++}`

/** An open log with a stream and a connection of its own. */
async function open(options: Partial<NatsLogOptions> = {}) {
  const connection = await server.connect()
  const stream = options.stream ?? newName()
  const log = natsLog({ connection, stream, ...options })
  const watched = watch(log)
  await watched.opened
  return { watched, log, stream, connection }
}

describe('a server that is killed (fault 26)', () => {
  it('has lost no acknowledged entry when it is started again', async () => {
    const { watched, log, stream } = await open()
    const frames = Array.from({ length: 200 }, (_, i) => `${i}`)
    await Promise.all(frames.map(frame => append(log, frame)))
    await server.restart()
    await watched.until(() => watched.states.at(-1) === true)
    await append(log, 'after')
    await watched.until(() => watched.frames.length === 201)
    expect(watched.resets).toEqual(['boot'])
    const late = await open({ stream })
    expect(late.watched.frames).toEqual([...frames, 'after'])
    expect(late.watched.ids).toEqual(watched.ids)
  })
})

describe('a stream that was purged, trimmed or created again (fault 37)', () => {
  /** Runs `change` on the stream while this process is cut off from it. */
  async function whileAway(change: (stream: string) => Promise<void>, options = {}) {
    const { watched, log, stream } = await open(options)
    for (const frame of 'abc') await append(log, frame)
    await watched.until(() => watched.frames.length === 3)
    server.proxy.block()
    await watched.until(() => watched.states.at(-1) === false)
    await change(stream)
    server.proxy.allow()
    await watched.until(() => watched.states.at(-1) === true)
    // The barrier resolves once this process has read everything.
    await log.barrier()
    return watched
  }

  /** Runs `run` with the log of another process, which is not cut off. */
  async function other(stream: string, run: (log: EventLog) => Promise<unknown>) {
    const { log, opened } = watch(natsLog({ connection: server.direct(), stream }))
    await opened
    await run(log)
  }

  it('is reported as replaced if it was in memory and the server restarted', async () => {
    const { watched, log } = await open({ storage: 'memory' })
    await append(log, 'old')
    await watched.until(() => watched.frames.length === 1)
    await server.restart()
    await watched.until(() => watched.resets.length === 2)
    expect(watched.resets).toEqual(['boot', 'replaced'])
    expect(watched.frames).toEqual([])
    expect(watched.ids).toHaveLength(1)
  })

  it('is reported as replaced if it was created again meanwhile, even with the same length', async () => {
    const watched = await whileAway(async stream => {
      await (await server.manager()).streams.delete(stream)
      await other(stream, async log => {
        for (const frame of 'xyz') await append(log, frame)
      })
    })
    expect(watched.resets).toEqual(['boot', 'replaced'])
    expect(watched.frames).toEqual(['x', 'y', 'z'])
  })

  it('is reported as replaced by the next append if it was created again while being read', async () => {
    const { watched, log, stream } = await open()
    for (const frame of 'abc') await append(log, frame)
    await (await server.manager()).streams.delete(stream)
    await other(stream, late => append(late, 'x'))
    const id = await append(log, 'y')
    expect(watched.resets).toEqual(['boot', 'replaced'])
    expect(watched.frames).toEqual(['x', 'y'])
    expect(watched.ids.at(-1)).toBe(id)
  })

  it('resolves appends to the ids that readers know while it is found to be replaced', async () => {
    const { watched, log, stream } = await open()
    for (const frame of 'abc') await append(log, frame)
    await (await server.manager()).streams.delete(stream)
    await other(stream, late => append(late, 'x'))
    const appended: Promise<string>[] = []
    while (!watched.resets.includes('replaced')) {
      appended.push(append(log, `${appended.length}`))
      await turn()
    }
    const ids = await Promise.all(appended)
    await watched.until(() => watched.frames.length === ids.length + 1)
    expect(watched.ids.slice(-ids.length)).toEqual(ids)
  })

  it('is reported as trimmed if unread entries were purged', async () => {
    const watched = await whileAway(async stream => {
      await other(stream, async log => {
        await append(log, 'lost')
        await (await server.manager()).streams.purge(stream)
        await append(log, 'd')
      })
    })
    expect(watched.resets).toEqual(['boot', 'trimmed'])
    expect(watched.frames).toEqual(['d'])
  })

  it('continues if it was purged after everything had been read', async () => {
    const watched = await whileAway(async stream => {
      await (await server.manager()).streams.purge(stream)
    })
    await append(watched.log, 'd')
    await watched.until(() => watched.frames.includes('d'))
    expect(watched.resets).toEqual(['boot'])
    expect(watched.frames).toEqual(['a', 'b', 'c', 'd'])
  })

  it('is reported as trimmed if the last entry read was displaced by newer ones', async () => {
    const watched = await whileAway(
      stream =>
        other(stream, async log => {
          for (let i = 0; i < 10; i++) await append(log, `${i}`)
        }),
      { maxEntries: 5 },
    )
    expect(watched.resets).toEqual(['boot', 'trimmed'])
    expect(watched.frames).toEqual(['5', '6', '7', '8', '9'])
  })

  it('continues if only entries that had been read were trimmed', async () => {
    const watched = await whileAway(stream => other(stream, log => append(log, 'd')), {
      maxEntries: 3,
    })
    expect(watched.resets).toEqual(['boot'])
    expect(watched.frames).toEqual(['a', 'b', 'c', 'd'])
  })

  it('is reported as trimmed at an unread message that was deleted', async () => {
    const watched = await whileAway(async stream => {
      const { streams } = await server.manager()
      await other(stream, async log => {
        await append(log, 'd')
        await append(log, 'deleted')
        const { state } = await streams.info(stream)
        await append(log, 'e')
        await streams.deleteMessage(stream, state.last_seq)
      })
    })
    expect(watched.resets).toEqual(['boot', 'trimmed'])
    expect(watched.frames).toEqual(['e'])
  })

  it('is reported as trimmed once if the last message read was deleted', async () => {
    const watched = await whileAway(async stream => {
      const { streams } = await server.manager()
      const { state } = await streams.info(stream)
      await other(stream, log => append(log, 'd'))
      await streams.deleteMessage(stream, state.last_seq)
    })
    expect(watched.resets).toEqual(['boot', 'trimmed'])
    expect(watched.frames).toEqual(['d'])
  })

  it('gives a window that begins after a hole', async () => {
    const { log, stream } = await open()
    for (const frame of 'abc') await append(log, frame)
    const { streams } = await server.manager()
    await streams.deleteMessage(stream, (await streams.info(stream)).state.last_seq - 1)
    const late = await open({ stream })
    expect(late.watched.frames).toEqual(['c'])
  })

  it('gives clients a gap', async () => {
    const stream = newName()
    const pool = testPool({
      log: natsLog({ connection: server.connect(), stream }),
    })
    // The log is down for a moment, which is an error event.
    pool.on('error', () => {})
    const { origin } = await serveStreams({ pool })
    const client = await connect(origin, '/?id=ada')
    await client.until(({ lastEventId }) => lastEventId !== '')
    await pool.send('ada', 'one')
    await client.until(({ data }) => data.length === 1)
    const { lastEventId } = client
    client.close()
    await (await server.manager()).streams.delete(stream)
    // Nothing answers for the subject any more, so the log notices at once.
    await expect(pool.send('ada', 'two')).rejects.toThrow('no JetStream answers')
    const again = await connect(origin, '/?id=ada', { headers: { 'Last-Event-ID': lastEventId } })
    expect((await again.event('sse.gap')).data).toMatch(/unknown|replaced/)
  })
})

describe('an entry that the server refuses (fault 29)', () => {
  it('rejects its append if the stream is full, and the log stays up', async () => {
    const stream = newName()
    const { streams } = await server.manager()
    await streams.add({
      name: stream,
      subjects: [`${stream}.entries`],
      max_msgs: 2,
      discard: DiscardPolicy.New,
    })
    const { watched, log } = await open({ stream })
    const id = await append(log, 'a')
    await expect(append(log, 'b')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('maximum messages exceeded'),
    })
    expect(await log.barrier()).toBe(id)
    expect(watched.states).toEqual([])
  })

  it('rejects its append if it exceeds max_payload, and the next append is stored', async () => {
    const { watched, log } = await open()
    await expect(append(log, 'x'.repeat(9 * 1024 * 1024))).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('max_payload'),
    })
    await append(log, 'small')
    await watched.until(() => watched.frames.length === 1)
  })
})

describe('a server that hangs (fault 30)', () => {
  it('is noticed within 5 s, and nothing is sent to it from then on', async () => {
    const { watched, log } = await open()
    server.pause()
    const paused = performance.now()
    try {
      await watched.until(() => watched.states.at(-1) === false)
      expect(performance.now() - paused).toBeLessThan(5000)
      await expect(append(log, 'meanwhile')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
      expect(watched.errors).toMatchObject([
        {
          code: 'ERR_SSE_LOG_DOWN',
          message: expect.stringContaining('the server has been silent'),
        },
      ])
    } finally {
      server.resume()
    }
    await watched.until(() => watched.states.at(-1) === true)
    await append(log, 'after')
    await watched.until(() => watched.frames.length === 1)
    expect(watched.frames).toEqual(['after'])
    expect(watched.resets).toEqual(['boot'])
  })
})

describe('a process that lags behind (fault 31)', () => {
  it('resolves the barrier once it has caught up', async () => {
    const { watched, log, stream } = await open()
    const writer = watch(natsLog({ connection: server.direct(), stream }))
    await writer.opened
    server.proxy.stall()
    const id = await append(writer.log, 'a')
    const answer = log.barrier().then(last => ({ last, frames: watched.frames }))
    await writer.until(() => writer.frames.length === 1)
    expect(watched.frames).toEqual([])
    server.proxy.flow()
    expect(await answer).toEqual({ last: id, frames: ['a'] })
  })
})

describe('foreign messages in the stream (fault 34)', () => {
  it('are skipped and counted', async () => {
    const stream = newName()
    const { streams } = await server.manager()
    await streams.add({ name: stream, subjects: [`${stream}.>`] })
    const { watched, log, connection } = await open({ stream })
    const foreign = jetstream(connection)
    await append(log, 'a')
    await foreign.publish(`${stream}.other`, encodeEntry({ nonce: 'n', target: '*', frame: '' }))
    const id = await append(log, 'b')
    await foreign.publish(`${stream}.entries`, 'garbage')
    await foreign.publish(`${stream}.entries`)
    // They are the last messages: the barrier must not wait for an entry that never arrives.
    expect(await log.barrier()).toBe(id)
    expect(watched.frames).toEqual(['a', 'b'])
    expect(log.foreign).toBe(3)
    const late = await open({ stream })
    expect(late.watched.ids).toEqual(watched.ids)
    expect(await late.log.barrier()).toBe(id)
  })

  it('make the log append a mark if there is nothing else', async () => {
    const stream = newName()
    const { streams } = await server.manager()
    await streams.add({ name: stream, subjects: [`${stream}.>`] })
    await jetstream(await server.direct()).publish(`${stream}.other`, 'garbage')
    const { watched } = await open({ stream })
    expect(watched.ids).toHaveLength(1)
  })
})

describe('an append without a reply (fault 35)', () => {
  it('is uncertain if the connection is lost, and stored once if it is repeated', async () => {
    const { watched, log, stream } = await open()
    server.proxy.isMute = true
    const appended = append(log, 'a', 'theSame')
    const reader = watch(natsLog({ connection: server.direct(), stream }))
    await reader.until(() => reader.frames.length === 1)
    server.proxy.cut()
    await expect(appended).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    server.proxy.isMute = false
    await watched.until(() => watched.states.at(-1) === true)
    const id = await append(log, 'a', 'theSame')
    await append(log, 'b')
    await watched.until(() => watched.frames.length === 2)
    expect(watched.frames).toEqual(['a', 'b'])
    expect(watched.ids.at(-2)).toBe(id)
    expect(watched.resets).toEqual(['boot'])
    // The mark and two entries: the server itself recognised the repetition by its nonce.
    const { state } = await (await server.manager()).streams.info(stream)
    expect(state.messages).toBe(3)
  })

  it('is uncertain if the reply takes too long', async () => {
    const { watched, log } = await open({ timeout: 200 })
    server.proxy.isMute = true
    const appended = append(log, 'a')
    await expect(appended).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    server.proxy.isMute = false
    server.proxy.cut()
    await watched.until(() => watched.frames.length === 1)
  })

  it('is delivered once even if it was stored twice, after the duplicate window of the server', async () => {
    const { watched, log, stream } = await open()
    const payload = encodeEntry({ nonce: 'twice', target: '*', frame: 'a' })
    const client = jetstream(await server.direct())
    await client.publish(`${stream}.entries`, payload)
    await client.publish(`${stream}.entries`, payload)
    const id = await append(log, 'b')
    expect(await log.barrier()).toBe(id)
    expect(watched.frames).toEqual(['a', 'b'])
    const late = await open({ stream })
    expect(late.watched.ids).toEqual(watched.ids)
  })
})

describe('a connection that is lost', () => {
  it('queues no append for later', async () => {
    const { watched, log } = await open()
    server.proxy.block()
    await watched.until(() => watched.states.at(-1) === false)
    await expect(append(log, 'a')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    await expect(log.barrier()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    server.proxy.allow()
    await watched.until(() => watched.states.at(-1) === true)
    await append(log, 'b')
    await watched.until(() => watched.frames.length > 0)
    expect(watched.frames).toEqual(['b'])
  })

  it('is reported if its owner closed it, and stays down', async () => {
    const { watched, log, connection } = await open()
    await connection.close()
    await watched.until(() => watched.states.at(-1) === false)
    await expect(append(log, 'a')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })

  it('makes open reject if it could never be established', async () => {
    const log = natsLog({ connection: Promise.reject(new Error('no luck')), stream: newName() })
    await expect(watch(log).opened).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('no luck'),
    })
  })
})

describe('a stream that cannot be a log', () => {
  it.each([
    ['it lacks the subject', { subjects: ['other.>'] }],
    ["its retention is 'workqueue'", { retention: RetentionPolicy.Workqueue }],
    ['it has no_ack', { no_ack: true }],
  ])('makes open reject with the reason: %s', async (why, config) => {
    const stream = newName()
    const { streams } = await server.manager()
    const made = await streams.add({ name: stream, subjects: [`${stream}.*`], ...config })
    const watched = watch(natsLog({ connection: await server.connect(), stream }))
    await expect(watched.opened).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining(`the stream "${stream}" cannot be a log: ${why}`),
    })
    expect(watched.states).toEqual([false])
    expect((await streams.info(stream)).config).toEqual(made.config)
    // The log keeps trying, in case the stream is corrected.
    await streams.delete(stream)
    await watched.until(() => watched.resets.length === 1)
    expect(watched.states).toEqual([false, true])
  })

  it('makes open reject if its subject belongs to another stream', async () => {
    const other = newName()
    await (await server.manager()).streams.add({ name: other, subjects: [`${other}.>`] })
    const connection = await server.connect()
    const log = natsLog({ connection, stream: newName(), subject: `${other}.entries` })
    await expect(watch(log).opened).rejects.toThrow(`the stream "${other}" has the subject`)
  })
})

describe('a stream that can be a log', () => {
  it('is created with the given options, and never altered', async () => {
    const options = { maxEntries: 7, storage: 'memory', subject: 'app.events.7' } as const
    const { stream } = await open(options)
    const { streams } = await server.manager()
    const { config } = await streams.info(stream)
    expect(config).toMatchObject({
      subjects: ['app.events.7'],
      max_msgs: 7,
      storage: 'memory',
      discard: 'old',
      duplicate_window: 120_000_000_000,
    })
    await open({ ...options, stream, maxEntries: 99 })
    expect((await streams.info(stream)).config).toEqual(config)
  })

  it('is read no further back than the window', async () => {
    const { log, stream } = await open()
    for (const frame of 'abcdef') await append(log, frame)
    expect((await open({ stream, maxEntries: 3 })).watched.frames).toEqual(['d', 'e', 'f'])
    expect((await open({ stream, windowBytes: 2 })).watched.frames).toEqual(['e', 'f'])
  })
})

describe('closing the log', () => {
  it('deletes its consumer and leaves the connection open', async () => {
    const { log, stream, connection } = await open()
    await log.close()
    await connection.flush()
    expect(connection.isClosed()).toBe(false)
    const { consumers } = await server.manager()
    expect(await consumers.list(stream).next()).toEqual([])
    await expect(append(log, 'late')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    await expect(log.barrier()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })

  it('makes a pending open reject', async () => {
    const log = natsLog({ connection: PENDING, stream: newName() })
    const { opened } = watch(log)
    await log.close()
    await expect(opened).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  })
})

it('reads through the inbox prefix of the connection, which permissions may require', async () => {
  const connection = await server.connect({ inboxPrefix: 'mine.only' })
  const { stream } = await open({ connection })
  const { consumers } = await server.manager()
  const [consumer] = await consumers.list(stream).next()
  expect(consumer?.config.deliver_subject).toMatch(/^mine\.only\./)
})

it.each([
  [{}, /option "connection" must be a connection or a promise of one, .*; got undefined/],
  [{ connection: 'localhost' }, /option "connection" .*; got "localhost"/],
  [{ stream: 'a.b' }, /option "stream" must be the name of a stream: .*; got "a.b"/],
  [{ subject: 'a.*' }, /option "subject" must be a subject without wildcards .*; got "a.\*"/],
  [{ subject: '$JS.API' }, /option "subject"/],
  [{ maxEntries: 0 }, /option "maxEntries" must be a whole number from 1 to 1000000; got 0/],
  [{ windowBytes: 1.5 }, /option "windowBytes"/],
  [{ storage: 'disk' }, /option "storage" must be 'file' or 'memory'; got "disk"/],
  [{ replicas: 6 }, /option "replicas" must be a whole number from 1 to 5; got 6/],
  [{ timeout: '5s' }, /option "timeout" must be milliseconds, .*; got "5s"/],
  [
    { servers: 'a' },
    /unknown option "servers"; pass a connection instead: natsLog\({ connection: con/,
  ],
  [{ nc: {} }, /unknown option "nc"; did you mean "connection"\?/],
  [{ name: 'a' }, /unknown option "name"; did you mean "stream"\?/],
  [{ max_msgs: 5 }, /unknown option "max_msgs"; did you mean "maxEntries"\?/],
  [{ steam: 'a' }, /unknown option "steam"; did you mean "stream"\?/],
])('throws a TypeError for invalid options: %o', async (options, message) => {
  const right =
    'connection' in options || !Object.keys(options).length ? {} : { connection: PENDING }
  const wrong = { stream: 'a', ...right, ...options } as NatsLogOptions
  expect(() => natsLog(wrong)).toThrow(TypeError)
  expect(() => natsLog(wrong)).toThrow(message)
})

describe('given something other than options', () => {
  const write = "write natsLog({ connection, stream: 'app-events' })"

  it('says what to write instead of a connection', async () => {
    const connection = await server.connect()
    expect(() => natsLog(connection as never)).toThrow(TypeError)
    expect(() => natsLog(connection as never)).toThrow(`got a connection; ${write}`)
  })

  it('says what to write instead of the promise of a connection', () => {
    expect(() => natsLog(PENDING as never)).toThrow(`got a connection; ${write}`)
  })

  it('says what to write instead of a URL, and does not repeat its password', () => {
    const said = 'got a string; write natsLog({ connection: connect({ servers }), stream })'
    expect(() => natsLog('nats://me:secret@localhost' as never)).toThrow(said)
  })
})
