import { ClientPool } from 'koa-sse-pool'
import { type RedisLogOptions, redisLog } from 'koa-sse-pool/redis'
import { describe, expect, onTestFinished, test } from 'vitest'
import { append, ids, type LogProcess, nonce, start } from '../../src/testing-process.js'
import { drivers, Middleman, RedisServer } from '../helpers/redis.js'
import { connect, serveStreams } from '../helpers/server.js'

const resumeWith = (id: string) => ({ headers: { 'Last-Event-ID': id } })

type DriverName = keyof typeof drivers
const names = Object.keys(drivers) as DriverName[]

async function startServer(...options: string[]): Promise<RedisServer> {
  const server = await RedisServer.start(...options)
  onTestFinished(() => server.stop())
  return server
}

async function startMiddleman(server: RedisServer): Promise<Middleman> {
  const middleman = await Middleman.to(server.port)
  onTestFinished(() => middleman.close())
  return middleman
}

type Options = Partial<RedisLogOptions> & { url: string; driver?: DriverName }

/** A process whose errors are kept too. */
function begin({ url, driver = 'ioredis', ...options }: Options) {
  const { client, end } = drivers[driver](url)
  const log = redisLog({ client, key: 'log', ...options })
  onTestFinished(async () => {
    await log.close()
    end()
  })
  const errors: Error[] = []
  const { open } = log
  log.open = sink => open.call(log, { ...sink, error: error => errors.push(error as Error) })
  return Object.assign(start(log), { errors })
}

async function open(options: Options) {
  const process = begin(options)
  await process.opened
  return process
}

const isDown = (process: LogProcess) => process.until('down', () => !process.isUp)
const isUp = (process: LogProcess) => process.until('up', () => process.isUp)
const isReplaced = (process: LogProcess) =>
  process.until('replaced', () => process.resets.includes('replaced'))

/** A connection that waits for new entries, now, in the server. */
async function isBlocked(server: RedisServer, count = 1) {
  const info = async () => String(await server.command('INFO', 'clients'))
  await expect.poll(info).toContain(`blocked_clients:${count}`)
}

describe.each(names)('by %s', driver => {
  test('fault 25: connections that are killed lose and double nothing', async () => {
    const server = await startServer()
    const { url } = server
    const [writer, reader] = [await open({ url, driver }), await open({ url, driver })]
    const frames: string[] = []
    for (let round = 0; round < 10; round++) {
      await isBlocked(server, 2)
      await server.cut()
      // While nobody listens, and by somebody else.
      const fields = ['n', nonce(), 't', '*', 'f', `${round}`]
      await server.command('XADD', 'log', '*', ...fields)
      frames.push(`${round}`)
      for (const process of [writer, reader]) {
        await process.has(frames)
        await isUp(process)
      }
    }
    await append(writer, 'last')
    for (const process of [writer, reader]) await process.has([...frames, 'last'])
    expect([writer.resets, reader.resets]).toEqual([['boot'], ['boot']])
    expect(ids(reader)).toEqual(ids(writer))
  }, 30_000)

  test('fault 26: no acknowledged entry is lost when Redis is killed that writes all', async () => {
    const server = await startServer('--appendonly', 'yes', '--appendfsync', 'always')
    const process = await open({ url: server.url, driver })
    const acknowledged: string[] = []
    let hasBegun = () => {}
    const begun = new Promise<void>(resolve => {
      hasBegun = resolve
    })
    const writers = Array.from({ length: 20 }, async () => {
      try {
        for (;;) {
          acknowledged.push(await append(process, 'x'))
          if (acknowledged.length === 200) hasBegun()
        }
      } catch (error) {
        return (error as { code?: string }).code
      }
    })
    await begun
    await server.kill()
    for (const code of await Promise.all(writers)) expect(code).toMatch(/^ERR_SSE_LOG_/)
    await server.run()
    const id = await retry(() => append(process, 'after'))
    for (const one of [process, await open({ url: server.url, driver })]) {
      await one.until('arrived', () => one.window.at(-1)?.id === id)
      const known = new Set(ids(one))
      expect(acknowledged.filter(one => !known.has(one))).toEqual([])
    }
    expect(process.resets).toEqual(['boot'])
  }, 30_000)

  test('fault 30: a server that hangs is noticed in time, and waited for', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, driver, blockMs: 1000, timeout: 1500 })
    await isBlocked(server)
    const paused = performance.now()
    server.pause()
    const entry = { nonce: nonce(), target: '*', frame: 'hello' }
    const appended = process.log.append(entry)
    await isDown(process)
    expect(performance.now() - paused).toBeLessThan(1000 + 3000)
    await expect(appended).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await expect(append(process, 'x')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    server.goOn()
    await isUp(process)
    // What was sent before arrives now, or never; and again is the same.
    const id = await process.log.append(entry)
    await append(process, 'last')
    await process.has(['hello', 'last'])
    expect(process.entries[0]?.id).toBe(id)
  }, 30_000)

  test('fault 35: a reply that is lost is uncertain, and appended again it is one entry', async () => {
    const server = await startServer()
    const middleman = await startMiddleman(server)
    const process = await open({ url: middleman.url, driver })
    const other = await open({ url: server.url, driver })
    const entry = { nonce: nonce(), target: '*', frame: 'once' }
    const lost = middleman.loseReplyTo('XADD')
    await expect(process.log.append(entry)).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_UNCERTAIN',
      message: expect.stringContaining('the entry may or may not be stored'),
    })
    await lost
    const id = await retry(() => process.log.append(entry))
    await append(other, 'last')
    for (const one of [process, other, await open({ url: server.url, driver })]) {
      await one.has(['once', 'last'])
      expect(one.entries[0]?.id).toBe(id)
    }
  })
})

describe('fault 27: another log is said to be one', () => {
  test('after a restart without data', async () => {
    const server = await startServer()
    const process = await open({ url: server.url })
    const old = await append(process, 'old')
    await server.restart()
    await isReplaced(process)
    const id = await retry(() => append(process, 'new'))
    await process.has(['new'])
    expect(process.log.compare(old, id)).toBeLessThan(0)
  }, 20_000)

  test('after a FLUSHALL while it waits for entries', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 500 })
    await append(process, 'old')
    await isBlocked(server)
    await server.command('FLUSHALL')
    await isReplaced(process)
    expect(process.entries).toEqual([])
    // The cursor that there is from the first moment.
    expect(await process.log.barrier()).toBe(process.window.at(-1)?.id)
  })

  test('after a FLUSHALL while it is disconnected, with newer entries already there', async () => {
    const server = await startServer()
    const process = await open({ url: server.url })
    for (const frame of 'abc') await append(process, frame)
    await isBlocked(server)
    await server.command(
      'EVAL',
      `redis.call('FLUSHALL')
       redis.call('XADD', 'log', '99999999999999-0', 'n', 'newEntry', 't', '*', 'f', 'new')`,
      0,
    )
    await isReplaced(process)
    await process.has(['new'])
  })

  test('when the same id has come again', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 500 })
    const id = await append(process, 'old')
    await process.has(['old'])
    await isBlocked(server)
    const rowId = id.split('-', 2).join('-')
    await server.command(
      'EVAL',
      `redis.call('FLUSHALL')
       redis.call('XADD', 'log', '${rowId}', 'n', 'newEntry', 't', '*', 'f', 'new')`,
      0,
    )
    await isReplaced(process)
    await process.has(['new'])
    expect(process.log.compare(id, process.entries[0]?.id as string)).toBe(0)
    expect(process.entries[0]?.id).not.toBe(id)
  })
})

describe('fault 28:', () => {
  test('what was trimmed before it was read is a gap', async () => {
    const server = await startServer()
    const middleman = await startMiddleman(server)
    const behind = await open({ url: middleman.url })
    const writer = await open({ url: server.url })
    await append(writer, 'read')
    await behind.has(['read'])
    middleman.hold()
    for (const frame of 'abcde') await append(writer, frame)
    await server.command('XTRIM', 'log', 'MAXLEN', 2)
    middleman.release()
    await behind.until('told', () => behind.resets.includes('trimmed'))
    await behind.has(['d', 'e'])
    await append(writer, 'live')
    await behind.has(['d', 'e', 'live'])
  })

  test('what was trimmed is no other log, even to processes that began it together', async () => {
    const server = await startServer()
    for (let round = 0; round < 30; round++) {
      const key = `log${round}`
      const both = [begin({ url: server.url, key }), begin({ url: server.url, key })]
      for (const process of both) await process.opened
      await server.command('XTRIM', key, 'MAXLEN', 0)
      await server.command('XADD', key, '*', 'n', nonce(), 't', '*', 'f', 'new')
      for (const process of both) {
        await process.until('arrived', () => process.entries.length === 1)
        expect(process.resets).toEqual(['boot', 'trimmed'])
      }
    }
  })

  test('a key of another type is told once, without a hot loop, and recovered from', async () => {
    const server = await startServer()
    const process = await open({ url: server.url, blockMs: 200 })
    await append(process, 'old')
    await server.command('SET', 'log', 'something else')
    await isDown(process)
    await expect(append(process, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('the key holds something else than a log'),
    })
    const failed = async () =>
      Number(/WRONGTYPE:count=(\d+)/.exec(String(await server.command('INFO', 'errorstats')))?.[1])
    // Long enough for the pauses to have grown, so a loop without them would be at thousands.
    await expect.poll(failed, { timeout: 10_000 }).toBeGreaterThan(6)
    expect(await failed()).toBeLessThan(30)
    expect(process.errors.map(({ message }) => message)).toEqual([
      expect.stringMatching(/out of reach: WRONGTYPE .*\(the key holds something else than a log/),
    ])
    await server.command('DEL', 'log')
    await isUp(process)
    expect(process.resets).toEqual(['boot', 'replaced'])
    await append(process, 'new')
    await process.has(['new'])
  }, 30_000)
})

test('fault 29: without memory an append rejects, and the log stays up', async () => {
  const server = await startServer()
  const process = await open({ url: server.url })
  await server.command('CONFIG', 'SET', 'maxmemory', 1)
  await expect(append(process, 'x')).rejects.toMatchObject({
    code: 'ERR_SSE_LOG_DOWN',
    message: expect.stringMatching(/not stored: OOM .*maxmemory; raise it, or lower maxEntries/),
  })
  expect(process.isUp).toBe(true)
  await server.command('CONFIG', 'SET', 'maxmemory', 0)
  await append(process, 'hello')
  await process.has(['hello'])
})

test('fault 31: a client that is ahead of a stalled process is parked, and gets nothing twice', async () => {
  const server = await startServer()
  const middleman = await startMiddleman(server)
  const writer = await open({ url: server.url })
  const { client } = drivers.ioredis(middleman.url)
  const pool = new ClientPool({ log: redisLog({ client, key: 'log' }) })
  onTestFinished(() => pool.close())
  const { origin } = await serveStreams({ pool })
  const early = await connect(origin, '/?id=early')
  await early.event('sse.cursor')
  await append(writer, 'data: one\n\n')
  await early.until(({ data }) => data.includes('one'))
  middleman.hold()
  const cursor = await append(writer, 'data: two\n\n')
  const ahead = await connect(origin, '/?id=ahead', resumeWith(cursor))
  await expect.poll(() => pool.stats().parked).toBe(1)
  await append(writer, 'data: three\n\n')
  middleman.release()
  await ahead.until(({ data }) => data.includes('three'))
  await early.until(({ data }) => data.includes('three'))
  expect(ahead.data).toEqual(['three'])
  expect(early.data).toEqual(['one', 'two', 'three'])
  expect(pool.stats()).toMatchObject({ gaps: 0, parked: 0 })
})

test('fault 32: without Redis a pool serves and parks those who resume, until it is there', async () => {
  const server = await RedisServer.absent('--appendonly', 'yes')
  onTestFinished(() => server.stop())
  const { client } = drivers.ioredis(server.url)
  const pool = new ClientPool({ log: redisLog({ client, key: 'log' }) })
  onTestFinished(() => pool.close())
  pool.on('error', () => {})
  const { origin } = await serveStreams({ pool })
  const [fresh, back] = [
    await connect(origin, '/?id=fresh'),
    await connect(origin, '/?id=back', resumeWith('1-0-aaaaaaaa')),
  ]
  await expect.poll(() => pool.stats().log).toBe('down')
  const [stream] = pool.get('fresh')?.streams ?? []
  stream?.send('direct')
  await fresh.until(({ data }) => data.includes('direct'))
  await expect(pool.broadcast('x')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
  expect(back.events).toEqual([])
  await server.run()
  await back.event('sse.gap')
  await expect.poll(() => pool.stats().log, { timeout: 10_000 }).toBe('up')
  await pool.broadcast('there')
  for (const one of [fresh, back]) await one.until(({ data }) => data.includes('there'))
}, 20_000)

describe.each(names)('fault 33: by %s', driver => {
  test('without a password it is down, and says so once', async () => {
    const server = await startServer('--requirepass', 'secret')
    const process = begin({ url: server.url, driver })
    await isDown(process)
    await expect(append(process, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringMatching(/NOAUTH .*give the client a password/),
    })
    expect(process.errors.map(({ message }) => message)).toEqual([expect.stringMatching(/NOAUTH/)])
    const withIt = await open({ url: server.url.replace('//', '//:secret@'), driver })
    await append(withIt, 'hello')
    await withIt.has(['hello'])
  })

  test('a replica refuses appends, and is taken again when it is promoted', async () => {
    const primary = await startServer('--repl-diskless-sync-delay', '0')
    const writer = await open({ url: primary.url, driver })
    await append(writer, 'one')
    const replica = await startServer('--replicaof', '127.0.0.1', `${primary.port}`)
    const length = async () => replica.command('XLEN', 'log').catch(() => 0)
    await expect.poll(length, { timeout: 10_000 }).toBe(2)
    const process = await open({ url: replica.url, driver })
    await process.has(['one'])
    await expect(append(process, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringMatching(/READONLY .*connect to the primary/),
    })
    await replica.command('REPLICAOF', 'NO', 'ONE')
    await retry(() => append(process, 'two'))
    await process.has(['one', 'two'])
  }, 20_000)

  test('a script that blocks Redis makes appends reject, and is outlived', async () => {
    const server = await startServer('--busy-reply-threshold', '20')
    const process = await open({ url: server.url, driver, blockMs: 200 })
    const { client, end } = drivers.ioredis(server.url)
    onTestFinished(end)
    // While it is blocked nobody could connect to unblock it.
    await server.command('PING')
    const script = client.eval('while true do end', 0).catch(() => {})
    await isDown(process)
    await expect(append(process, 'x')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringMatching(/BUSY .*end it by SCRIPT KILL/),
    })
    await server.command('SCRIPT', 'KILL')
    await script
    await isUp(process)
    await append(process, 'hello')
    await process.has(['hello'])
  }, 20_000)

  test('a server that loads its data is waited for', async () => {
    const server = await startServer('--loading-process-events-interval-bytes', '1024')
    const process = await open({ url: server.url, driver })
    const frames = Array.from({ length: 300 }, (_, index) => `${index}`.padEnd(1000))
    for (const frame of frames) await append(process, frame)
    await server.command('EVAL', `for i = 1, 1000 do redis.call('SET', i, i) end`, 0)
    await server.command('SAVE')
    await server.kill()
    await isDown(process)
    // Microseconds for each key.
    const running = server.run('--key-load-delay', '2000')
    await process.until('loading', () =>
      process.errors.some(({ message }) => /LOADING/.test(message)),
    )
    await running
    await isUp(process)
    await retry(() => append(process, 'hello'))
    await process.has([...frames, 'hello'])
    expect(process.resets).toEqual(['boot'])
  }, 30_000)
})

test('closing while it connects or pauses ends all of it', async () => {
  const server = await startServer()
  const middleman = await startMiddleman(server)
  for (const driver of names) {
    middleman.hold()
    const connecting = begin({ url: middleman.url, driver, timeout: 1000 })
    await connecting.log.close()
    middleman.release()
  }
  const clients = async () => String(await server.command('INFO', 'clients'))
  await expect.poll(clients, { timeout: 5000 }).toContain('connected_clients:1\r\n')
})

/** Until the log, which is just coming back, takes it. */
async function retry<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_SSE_LOG_DOWN') throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}
