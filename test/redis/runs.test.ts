import { once } from 'node:events'
import net from 'node:net'
import { type RedisRunsOptions, redisRuns } from 'koa-sse-pool/redis'
import { createClient, createCluster } from 'redis'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import {
  begin,
  EVERYTHING,
  entriesOf,
  follow,
  repeat,
  startedWatch,
  statusOf,
  waitForStatus,
} from '../../src/testing/runs.js'
import { drivers, RedisServer } from '../helpers/redis.js'
import { type DriverName, names, startProxy, startServer } from '../helpers/redis-process.js'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start('--repl-diskless-sync-delay', '0')
})
beforeEach(async () => void (await server.command('FLUSHALL')))
afterAll(() => server.stop())

type Options = Partial<RedisRunsOptions> & {
  url?: string
  driver?: DriverName
  clientOptions?: object
}

function open({ url = server.url, driver = 'ioredis', clientOptions, ...options }: Options = {}) {
  const { client, end } = drivers[driver](url, clientOptions)
  const store = redisRuns({ client, ...options })
  onTestFinished(async () => {
    await store.close()
    end()
  })
  return store
}

/** Forwards everything, until it silently drops all data of the connections it has so far. */
async function startDeafProxy() {
  const live = new Set<net.Socket>()
  const listener = net.createServer(near => {
    const far = net.connect(server.port, '127.0.0.1')
    live.add(near)
    near.on('data', data => live.has(near) && far.write(data))
    far.on('data', data => live.has(near) && near.write(data))
    for (const socket of [near, far]) {
      socket.on('error', () => {})
      onTestFinished(() => void socket.destroy())
    }
  })
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void listener.close())
  const { port } = listener.address() as net.AddressInfo
  return { url: `redis://127.0.0.1:${port}`, deafen: () => live.clear() }
}

/** The commands that clients send to the server, without those of scripts and of the test itself. */
async function monitor() {
  const { client, end } = drivers.ioredis(server.url)
  onTestFinished(end)
  const commands: string[] = []
  const monitoring = await client.monitor()
  onTestFinished(() => monitoring.disconnect())
  monitoring.on('monitor', (_time: string, args: string[], source: string) => {
    if (source !== 'lua') commands.push((args[0] as string).toLowerCase())
  })
  /** Resolves to the commands so far. */
  return async () => {
    await server.command('ECHO', 'mark')
    await expect.poll(() => commands.at(-1)).toBe('echo')
    return commands.splice(0).slice(0, -1)
  }
}

describe('redisRuns()', () => {
  const client = createClient()
  for (const [options, message] of [
    [
      { client, key: '' },
      'redisRuns(): option "key" must be what the names of all keys begin with',
    ],
    [{ client, key: 'a}b' }, 'a non-empty string without braces; got "a}b"'],
    [{ client, keys: 'k' }, 'redisRuns(): unknown option "keys"; did you mean "key"?'],
    [{ client, timeout: 0 }, 'option "timeout" must be milliseconds, a whole number'],
    [
      { client, linger: -1 },
      'option "linger" must be milliseconds, a whole number from 0 to 10000',
    ],
    [{ client, linger: 10_001 }, 'option "linger" must be milliseconds'],
    [{ client, linger: '50ms' }, 'write the number 50, without quotes or unit'],
    [{}, 'redisRuns(): option "client" must be a client made by createClient()'],
    [
      { client: createCluster({ rootNodes: [] }) },
      'redisRuns(): option "client" must be a client of one',
    ],
    [undefined, 'redisRuns(): options must be an object; got undefined'],
    [client, 'redisRuns(): options must be an object; got a client; write redisRuns({ client })'],
    ['redis://:secret@localhost', 'write redisRuns({ client: createClient({ url }) })'],
    [{ url: 'redis://' }, 'pass a client instead: redisRuns({ client: createClient({ url }) })'],
    [{ client, ttl: 5 }, 'unknown option "ttl"; each run has its own'],
    [{ client, prefix: 'app:' }, 'unknown option "prefix"; did you mean "key"?'],
  ] as const) {
    test(`throws a TypeError that says: ${message}`, () => {
      expect(() => redisRuns(options as never)).toThrow(TypeError)
      expect(() => redisRuns(options as never)).toThrow(message)
    })
  }

  test('lets events of a producer wait for others for 50 ms, or as long as the option says', () => {
    expect(open().linger).toBe(60)
    expect(open({ linger: 0 }).linger).toBe(0)
    expect(open({ linger: 10_000 }).linger).toBe(10_000)
  })
})

describe.each(names)('runs in Redis with %s', driver => {
  test('need one command for each call', async () => {
    const store = open({ driver })
    await begin(store, 'run', { ttl: 600_000, lease: { ms: 600_000, ending: 'lost' } })
    const commands = await monitor()
    for (let round = 0; round < 3; round++) {
      for (const call of [
        () => store.create('run', { meta: '' }),
        () => store.append('run', { entries: ['a', 'b'] }),
        () => store.read('run', 0, EVERYTHING),
        () => store.get('run'),
        () => store.renew('run'),
        () => store.delete('other'),
      ]) {
        await call()
        // The text of a script is sent once for each connection, and then its hash.
        expect(await commands()).toEqual([
          round === 0 && !String(call).includes('create') ? 'eval' : 'evalsha',
        ])
      }
    }
  })

  test('are not affected when Redis forgets its scripts', async () => {
    const store = open({ driver })
    await begin(store, 'run')
    for (let round = 0; round < 3; round++) {
      await store.append('run', { entries: [`${round}`] })
      await server.command('SCRIPT', 'FLUSH')
    }
    expect(await entriesOf(store, 'run')).toEqual(['0', '1', '2'])
  })

  test('open one connection for calls and one for watching, and do not touch the client', async () => {
    const clientOptions = { name: 'mine', connectionName: 'mine' }
    const { client } = drivers[driver](server.url, clientOptions)
    const before = 'isOpen' in client ? client.isOpen : client.status
    const store = redisRuns({ client })
    const connections = async () =>
      String(await server.command('CLIENT', 'LIST')).match(/name=mine/g)?.length ?? 0
    expect(await connections()).toBe(0)
    await begin(store, 'run')
    await begin(store, 'other')
    expect(await connections()).toBe(1)
    const watches = [await startedWatch(store, 'run'), await startedWatch(store, 'run')]
    watches.push(await startedWatch(store, 'other'))
    expect(await connections()).toBe(2)
    const subscriptions = async () => await server.command('PUBSUB', 'CHANNELS', '*news*')
    expect(await subscriptions()).toHaveLength(2)
    for (const watch of watches) watch.stop()
    await expect.poll(subscriptions).toEqual([])
    await store.close()
    await expect.poll(connections).toBe(0)
    expect('isOpen' in client ? client.isOpen : client.status).toBe(before)
  })

  test('put the key prefix of the client before all keys and channels', async () => {
    const store = open({ driver, key: 'runs', clientOptions: { keyPrefix: 'app:' } })
    await begin(store, 'a}b', { entries: ['x'] })
    await begin(store, 'fork', { fork: { from: 'a}b', at: 1 } })
    const keys = (await server.command('KEYS', '*')) as string[]
    expect(keys.sort()).toEqual([
      'app:{runs}:forks:a}b',
      'app:{runs}:log:a}b',
      'app:{runs}:run:a}b',
      'app:{runs}:run:fork',
    ])
    const watch = await startedWatch(store, 'a}b')
    expect(await server.command('PUBSUB', 'CHANNELS')).toEqual(['app:{runs}:news:0:a}b'])
    await store.append('a}b', { entries: ['y'] })
    await watch.until('called', () => watch.calls.length > 1)
    expect(watch.calls[1]?.entries).toEqual(['y'])
    const other = open({ driver, key: 'runs' })
    expect(await other.get('a}b')).toBeUndefined()
  })

  test('of two databases have no news of each other, although these share all channels', async () => {
    const store = open({ driver, url: `${server.url}/0` })
    const other = open({ driver, url: `${server.url}/1` })
    await begin(store, 'run')
    await begin(other, 'run')
    const watch = await startedWatch(store, 'run')
    await other.append('run', { entries: ['theirs'] })
    await store.append('run', { entries: ['ours'] })
    await watch.until('called', () => watch.calls.length > 1)
    expect(watch.calls[1]?.entries).toEqual(['ours'])
  })

  test('reject as uncertain if the reply is lost, and store a repeated append once', async () => {
    const proxy = await startProxy(server)
    const store = open({ driver, url: proxy.url })
    await begin(store, 'run')
    for (let seq = 0; seq < 3; seq++) {
      const append = () =>
        store.append('run', { entries: [`${seq}`], producer: { id: 'p', epoch: 0, seq } })
      const lost = proxy.loseReplyTo('EVAL')
      await expect(append()).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_UNCERTAIN',
        message: expect.stringContaining('redisRuns(): the entries may or may not be stored: '),
      })
      await lost
      expect((await repeat(append)).outcome).toBe('duplicate')
    }
    const lost = proxy.loseReplyTo('EVAL')
    await expect(store.read('run', 0, EVERYTHING)).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringContaining('redisRuns(): the run cannot be read: '),
    })
    await lost
    expect(await repeat(() => entriesOf(store, 'run'))).toEqual(['0', '1', '2'])
  })

  test('notice a hanging server, and call watchers once it is back', async () => {
    const own = await startServer()
    const store = open({ driver, url: own.url, timeout: 1000 })
    await begin(store, 'run')
    const watch = await startedWatch(store, 'run')
    own.pause()
    const producer = { id: 'p', epoch: 0, seq: 0 }
    const append = () => store.append('run', { entries: ['a'], producer })
    await expect(append()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_UNCERTAIN' })
    await expect(append()).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    own.resume()
    expect((await repeat(append)).outcome).toMatch(/^(appended|duplicate)$/)
    await watch.until('called', () => watch.calls.length > 1)
    expect(await entriesOf(store, 'run')).toEqual(['a'])
  }, 30_000)

  test('call watchers again if their connection is dead without being closed', async () => {
    const proxy = await startDeafProxy()
    const watching = open({ driver, url: proxy.url, timeout: 1000 })
    await begin(open({ driver }), 'run')
    const watch = await startedWatch(watching, 'run')
    // A PING without a reply shows it. Only a new connection can bring the call.
    proxy.deafen()
    await watch.until('called again', () => watch.calls.length > 1)
    expect(watch.calls).toEqual([undefined, undefined])
  })

  test('leave no connection behind if they are closed while connecting', async () => {
    const own = await startServer()
    const proxy = await startProxy(own)
    const store = open({ driver, url: proxy.url, timeout: 500 })
    proxy.hold()
    const refused = expect(store.get('run')).rejects.toMatchObject({ code: 'ERR_SSE_LOG_DOWN' })
    store.watch('run', () => {})
    await store.close()
    await refused
    proxy.release()
    const clients = async () => String(await own.command('INFO', 'clients'))
    await expect.poll(clients).toContain('connected_clients:1\r\n')
    await expect(store.get('run')).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: 'redisRuns(): the run cannot be read: the store is closed',
    })
  })

  test('are down on a replica, and there again once it is promoted', async () => {
    const replica = await startServer('--replicaof', '127.0.0.1', `${server.port}`)
    const store = open({ driver, url: replica.url })
    await begin(open({ driver }), 'run', { entries: ['a'] })
    await expect.poll(() => replica.command('DBSIZE')).toBe(2)
    const append = () => store.append('run', { entries: ['b'] })
    await expect(append()).rejects.toMatchObject({
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringMatching(/nothing was stored: .*READONLY .*connect to the primary/),
    })
    await replica.command('REPLICAOF', 'NO', 'ONE')
    await repeat(append)
    expect(await entriesOf(store, 'run')).toEqual(['a', 'b'])
  }, 30_000)

  test('say which permission is missing, for keys and for channels', async () => {
    const own = await startServer()
    await own.command('ACL', 'SETUSER', 'keys', 'on', '>x', '~*', 'resetchannels', '+@all')
    await own.command('ACL', 'SETUSER', 'none', 'on', '>x', '~*', '&*', '+@all', '-eval')
    for (const user of ['keys', 'none']) {
      const store = open({ driver, url: own.url.replace('//', `//${user}:x@`) })
      await expect(store.create('run', { meta: '' })).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_DOWN',
        message: expect.stringMatching(/NOPERM .*allow this user EVAL and EVALSHA on all keys and/),
      })
    }
  })
})

describe('the keys of runs', () => {
  test('are deleted by Redis when a run expires, also if nobody asks for it again', async () => {
    const store = open()
    const { createdAt } = await begin(store, 'sliding', { ttl: 100, entries: ['a'] })
    await begin(store, 'empty', { ttl: 100 })
    await begin(store, 'fixed', { expiresAt: createdAt + 200 })
    // The first append creates the key of the log, later than that of the hash.
    await store.append('fixed', { entries: ['a'] })
    await begin(store, 'remembered', { ttl: 50, remember: 200, entries: ['a'] })
    await begin(store, 'large', { ttl: 200, maxLength: 1, entries: ['a', 'b'] })
    await expect.poll(() => server.command('DBSIZE')).toBe(0)
  })

  test('of an expired run are its record alone while it is remembered', async () => {
    const store = open()
    await begin(store, 'run', { ttl: 50, remember: 600_000, entries: ['a'] })
    await expect.poll(() => server.command('DBSIZE')).toBe(1)
    expect(await server.command('KEYS', '*')).toEqual(['{koa-sse-pool:runs}:run:run'])
    expect(await statusOf(store, 'run')).toBe('expired')
  })

  test('stay without a ttl', async () => {
    const store = open()
    await begin(store, 'run', { entries: ['a'], ttl: Number.MAX_SAFE_INTEGER })
    await begin(store, 'other', { entries: ['a'] })
    for (const kind of ['run', 'log']) {
      for (const id of ['run', 'other']) {
        expect(await server.command('PTTL', `{koa-sse-pool:runs}:${kind}:${id}`)).toBe(-1)
      }
    }
  })

  test('of forks and their sources are deleted with the last that needs them', async () => {
    const store = open()
    await begin(store, 'a', { entries: ['1'], ttl: 500 })
    await begin(store, 'b', { entries: ['2'], fork: { from: 'a', at: 1 } })
    await begin(store, 'c', { entries: ['3'], fork: { from: 'b', at: 2 }, ttl: 2000 })
    await begin(store, 'd', { fork: { from: 'b', at: 1 }, ttl: 50, remember: 600 })
    await store.delete('b')
    await waitForStatus(store, 'a', 'deleted')
    expect(await entriesOf(store, 'c')).toEqual(['1', '2', '3'])
    await expect.poll(() => server.command('DBSIZE')).toBe(0)
  })

  test('are kept for a fork that is read, for as long as that is', async () => {
    const store = open()
    await begin(store, 'a', { entries: ['1'] })
    await begin(store, 'b', { entries: ['2'], fork: { from: 'a', at: 1 } })
    await begin(store, 'c', { entries: ['3'], fork: { from: 'b', at: 2 }, ttl: 60_000 })
    await store.delete('a')
    await store.delete('b')
    const expiries = async () => {
      const names = ['log:a', 'run:a', 'forks:a', 'log:b', 'run:b', 'forks:b', 'log:c', 'run:c']
      const times = names.map(name => server.command('PEXPIRETIME', `{koa-sse-pool:runs}:${name}`))
      const different = new Set(await Promise.all(times))
      expect(different.size).toBe(1)
      return Number([...different][0])
    }
    const first = await expiries()
    await expect
      .poll(async () => {
        await store.read('c', 0, EVERYTHING)
        return expiries()
      })
      .toBeGreaterThan(first)
  })

  test('do not collect forks that have expired', async () => {
    const store = open()
    await begin(store, 'source', { entries: ['1'] })
    for (let index = 0; index < 20; index++) {
      await begin(store, `${index}`, { ttl: 30, fork: { from: 'source', at: 1 } })
    }
    await waitForStatus(store, '19', 'unknown')
    await begin(store, 'last', { fork: { from: 'source', at: 1 } })
    expect(await server.command('ZCARD', '{koa-sse-pool:runs}:forks:source')).toBe(1)
    await store.delete('last')
    await store.delete('source')
    await expect.poll(() => server.command('DBSIZE')).toBe(0)
  })

  test('are all in one slot, so that a node of a Redis Cluster can hold them', async () => {
    const node = await startServer('--cluster-enabled', 'yes')
    await node.command('CLUSTER', 'ADDSLOTS', ...Array(16_384).keys())
    const info = async () => String(await node.command('CLUSTER', 'INFO'))
    await expect.poll(info).toContain('cluster_state:ok')
    const store = open({ url: node.url, key: 'runs' })
    await begin(store, '{a}', { entries: ['1'] })
    await begin(store, '}', { entries: ['2'], fork: { from: '{a}', at: 1 } })
    await begin(store, 'c', { entries: ['3'], fork: { from: '}', at: 2 }, ttl: 600_000 })
    await store.delete('{a}')
    await store.append('c', { entries: ['4'], ending: 'done' })
    expect(await follow(store, 'c')).toEqual(['1', '2', '3', '4'])
    const keys = (await node.command('KEYS', '*')) as string[]
    expect(keys).toHaveLength(8)
    const slots = keys.map(key => node.command('CLUSTER', 'KEYSLOT', key))
    expect(new Set(await Promise.all(slots))).toEqual(
      new Set([await node.command('CLUSTER', 'KEYSLOT', 'runs')]),
    )
    for (const id of ['}', 'c']) await store.delete(id)
    expect(await node.command('DBSIZE')).toBe(0)
  })

  test('of another type are an error that names the fix, and nothing is stored', async () => {
    const store = open()
    await begin(store, 'run')
    for (const [kind, call] of [
      ['log', () => store.append('run', { entries: ['a'], ending: 'done' })],
      ['run', () => store.append('run', { entries: ['a'] })],
    ] as const) {
      const before = await store.get('run')
      const key = `{koa-sse-pool:runs}:${kind}:run`
      await server.command(
        'EVAL',
        `redis.call('DEL', KEYS[1]); redis.call('SET', KEYS[1], 'x')`,
        1,
        key,
      )
      await expect(call()).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_DOWN',
        message: expect.stringMatching(/WRONGTYPE .*\(another program uses keys that begin with/),
      })
      if (kind === 'log') expect(await store.get('run')).toEqual(before)
      expect(await server.command('GET', key)).toBe('x')
    }
  })

  test('that were evicted are an error, rather than entries at wrong positions', async () => {
    const store = open()
    await begin(store, 'run', { entries: ['a', 'b'] })
    await begin(store, 'fork', { entries: ['c'], fork: { from: 'run', at: 2 } })
    await server.command('DEL', '{koa-sse-pool:runs}:log:run')
    for (const id of ['run', 'fork']) {
      await expect(store.read(id, 0, EVERYTHING)).rejects.toMatchObject({
        code: 'ERR_SSE_LOG_DOWN',
        message: expect.stringMatching(/EVICTED .*set maxmemory-policy to noeviction/),
      })
    }
    expect(await entriesOf(store, 'fork', 2)).toEqual(['c'])
    // Without its source, the fork has its own entries. A new run of that id is not its source.
    await server.command('DEL', '{koa-sse-pool:runs}:run:run')
    await begin(store, 'run', { entries: ['x', 'y', 'z'] })
    expect(await store.read('fork', 0, EVERYTHING)).toMatchObject({ after: 2, entries: ['c'] })
  })

  test('can be read and deleted while Redis is out of memory, and appends say so', async () => {
    const own = await startServer()
    const store = open({ url: own.url })
    await begin(store, 'run', { entries: ['a'], ttl: 600_000 })
    await own.command('CONFIG', 'SET', 'maxmemory', 1)
    const outOfMemory = {
      code: 'ERR_SSE_LOG_DOWN',
      message: expect.stringMatching(/OOM .*raise it, or let runs expire sooner/),
    }
    await expect(store.append('run', { entries: ['b'], ending: 'x' })).rejects.toMatchObject(
      outOfMemory,
    )
    await expect(store.append('run', { entries: [], ending: 'x' })).rejects.toMatchObject(
      outOfMemory,
    )
    await expect(store.create('other', { meta: '' })).rejects.toMatchObject(outOfMemory)
    expect(await entriesOf(store, 'run')).toEqual(['a'])
    expect((await store.renew('run'))?.status).toBe('open')
    expect((await store.delete('run'))?.status).toBe('open')
    expect(await own.command('DBSIZE')).toBe(0)
  })
})

test('a message that another program publishes makes watchers read', async () => {
  const store = open()
  await begin(store, 'run')
  const watch = await startedWatch(store, 'run')
  for (const [index, message] of ['{', '{}', '[]', 'null', '["a"]'].entries()) {
    await server.command('PUBLISH', '{koa-sse-pool:runs}:news:0:run', message)
    await watch.until('called', () => watch.calls.length > index + 1)
    expect(watch.calls.at(-1)).toBeUndefined()
  }
})

test('news of more than 16 KiB is left out, so that watchers read it instead', async () => {
  const store = open()
  await begin(store, 'run')
  const watch = await startedWatch(store, 'run')
  for (const [index, length] of [16_384, 16_385].entries()) {
    await store.append('run', { entries: ['x'.repeat(length)] })
    await watch.until('called', () => watch.calls.length > index + 1)
  }
  expect(watch.calls.map(news => news?.entries[0]?.length)).toEqual([undefined, 16_384, undefined])
})
