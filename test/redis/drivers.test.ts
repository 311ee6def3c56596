import { describe, expect, onTestFinished, test } from 'vitest'
import { append, ids, nonce } from '../../src/testing/process.js'
import { drivers } from '../helpers/redis.js'
import {
  begin,
  isBlocked,
  isDown,
  isUp,
  names,
  open,
  retry,
  startProxy,
  startServer,
} from '../helpers/redis-process.js'

describe.each(names)('the Redis log with %s', driver => {
  test('loses and duplicates nothing when its connections are killed (fault 25)', async () => {
    const server = await startServer()
    const { url } = server
    const [writer, reader] = [await open({ url, driver }), await open({ url, driver })]
    const frames: string[] = []
    for (let round = 0; round < 10; round++) {
      await isBlocked(server, 2)
      await server.cut()
      // Another program writes an entry while no process reads.
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

  test('loses no acknowledged entry when Redis is killed with appendfsync always (fault 26)', async () => {
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

  test('notices a hanging server in time, and recovers with it (fault 30)', async () => {
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
    server.resume()
    await isUp(process)
    // What was sent before arrives now or never. Appending it again must give the same entry.
    const id = await process.log.append(entry)
    await append(process, 'last')
    await process.has(['hello', 'last'])
    expect(process.entries[0]?.id).toBe(id)
  }, 30_000)

  test('resolves to the id that readers know if an entry is appended again before it was read back (fault 35)', async () => {
    const server = await startServer()
    const proxy = await startProxy(server)
    const process = await open({ url: proxy.url, driver })
    const other = await open({ url: server.url, driver })
    await isBlocked(server, 2)
    proxy.holdReading()
    const entry = { nonce: nonce(), target: '*', frame: 'once' }
    const lost = proxy.loseReplyTo('XADD')
    await expect(process.log.append(entry)).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await lost
    const again = retry(() => process.log.append(entry))
    // The mark, the entry and its repetition.
    await expect.poll(() => server.command('XLEN', 'log')).toBe(3)
    proxy.release()
    await other.has(['once'])
    expect(await again).toBe(other.entries[0]?.id)
    expect(ids(process)).toEqual(ids(other))
  })

  test('resolves to the id that readers know, also if the reading connection is lost meanwhile (fault 35)', async () => {
    const server = await startServer()
    const proxy = await startProxy(server)
    const process = await open({ url: proxy.url, driver })
    const other = await open({ url: server.url, driver })
    await isBlocked(server, 2)
    proxy.holdReading()
    const entry = { nonce: nonce(), target: '*', frame: 'once' }
    const lost = proxy.loseReplyTo('XADD')
    await expect(process.log.append(entry)).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await lost
    const again = retry(() => process.log.append(entry))
    await expect.poll(() => server.command('XLEN', 'log')).toBe(3)
    proxy.cutReading()
    await other.has(['once'])
    expect(await again).toBe(other.entries[0]?.id)
    expect(ids(process)).toEqual(ids(other))
  })

  test('rejects as uncertain if the reply is lost, and stores one entry if it is appended again (fault 35)', async () => {
    const server = await startServer()
    const proxy = await startProxy(server)
    const process = await open({ url: proxy.url, driver })
    const other = await open({ url: server.url, driver })
    const entry = { nonce: nonce(), target: '*', frame: 'once' }
    const lost = proxy.loseReplyTo('XADD')
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

describe.each(names)('the Redis log with %s, when Redis refuses commands (fault 33)', driver => {
  test('is down without the password, and reports that once', async () => {
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

  test('rejects appends on a replica, and stores them once it is promoted', async () => {
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

  test('rejects appends while a script blocks Redis, and recovers when it is killed', async () => {
    const server = await startServer('--busy-reply-threshold', '20')
    const process = await open({ url: server.url, driver, blockMs: 200 })
    const { client, end } = drivers.ioredis(server.url)
    onTestFinished(end)
    // Connect the admin first: a blocked Redis accepts no connection that could kill the script.
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

  test('waits for a server that is loading its data', async () => {
    const server = await startServer('--loading-process-events-interval-bytes', '1024')
    const process = await open({ url: server.url, driver })
    const frames = Array.from({ length: 300 }, (_, index) => `${index}`.padEnd(1000))
    for (const frame of frames) await append(process, frame)
    await server.command('EVAL', `for i = 1, 1000 do redis.call('SET', i, i) end`, 0)
    await server.command('SAVE')
    await server.kill()
    await isDown(process)
    // In microseconds per key.
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

test('closing the log while it connects or waits to reconnect leaves no connection behind', async () => {
  const server = await startServer()
  const proxy = await startProxy(server)
  for (const driver of names) {
    proxy.hold()
    const connecting = begin({ url: proxy.url, driver, timeout: 1000 })
    await connecting.log.close()
    proxy.release()
  }
  const clients = async () => String(await server.command('INFO', 'clients'))
  await expect.poll(clients, { timeout: 5000 }).toContain('connected_clients:1\r\n')
})
