/** Presence on real engines, with a process that is killed. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect } from '@nats-io/transport-node'
import type { EventLog } from 'koa-sse-pool'
import { natsLog } from 'koa-sse-pool/nats'
import { Presence } from 'koa-sse-pool/presence'
import { redisLog } from 'koa-sse-pool/redis'
import { createClient } from 'redis'
import { build } from 'tsup'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { NatsServer } from '../helpers/nats.js'
import { RedisServer } from '../helpers/redis.js'
import { testPool } from '../helpers/server.js'

/** Below node_modules, so that packages are found from here. */
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/koa-sse-pool', import.meta.url))

const LEASE = 1000

let outDir: string

beforeAll(async () => {
  await mkdir(CACHE, { recursive: true })
  outDir = await mkdtemp(join(CACHE, 'presence-'))
  await build({
    entry: { member: fileURLToPath(new URL('../helpers/presence-process.ts', import.meta.url)) },
    ...{ outDir, format: 'esm', target: 'node20', config: false, silent: true },
    outExtension: () => ({ js: '.mjs' }),
    skipNodeModulesBundle: true,
  })
})

afterAll(() => rm(outDir, { recursive: true }))

async function start(engine: string, port: number): Promise<ChildProcess> {
  const args = [JSON.stringify({ engine, port, lease: LEASE })]
  const child = fork(join(outDir, 'member.mjs'), args, { execArgv: [] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child, 'message')
  return child
}

/** Where the engine is, and its log as this process sees it. */
async function open(engine: string): Promise<{ port: number; log: EventLog }> {
  if (engine === 'nats') {
    const server = await NatsServer.start()
    onTestFinished(() => server.stop())
    const connection = await connect({ servers: `127.0.0.1:${server.port}` })
    onTestFinished(() => connection.close())
    return { port: server.port, log: natsLog({ connection, stream: 'presence' }) }
  }
  const server = await RedisServer.start()
  onTestFinished(() => server.stop())
  const client = createClient({ url: server.url })
  client.on('error', () => {})
  onTestFinished(() => client.destroy())
  return { port: server.port, log: redisLog({ client, key: 'presence' }) }
}

test.each(['redis', 'nats'])(
  'with %s, the members of a killed process leave once, though it was the one that tells pages',
  async engine => {
    const { port, log } = await open(engine)
    // The first process tells the pages.
    const first = await start(engine, port)
    const second = await start(engine, port)
    const pool = testPool({ log })
    const presence = new Presence({ pool, lease: LEASE })
    onTestFinished(() => presence.close())
    await presence.ready()
    const told: string[] = []
    void (async () => {
      for await (const { event, data } of pool.events({ channels: ['room'] })) {
        if (event?.startsWith('presence.')) told.push(`${event.slice(9)} ${JSON.parse(data).id}`)
      }
    })()
    const until = (check: () => void) => vi.waitFor(check, { timeout: 20_000, interval: 20 })
    for (const id of ['ada', 'bob']) first.send(id)
    await until(() => expect(told).toEqual(['join ada', 'join bob']))
    second.send('bob')
    second.send('cleo')
    await until(() => expect(told).toContain('join cleo'))
    // It dies in the middle of telling, wherever that is.
    const burst = Array.from({ length: 50 }, (_, i) => `client ${i}`)
    for (const id of burst) second.send(id)
    await until(() => expect(told.length).toBeGreaterThan(5))
    first.kill('SIGKILL')
    await until(() => expect(told.at(-1)).toBe('leave ada'))
    expect(told).toEqual([
      ...['join ada', 'join bob', 'join cleo'],
      ...burst.map(id => `join ${id}`),
      'leave ada',
    ])
    const ids = presence.members('room').map(({ id }) => id)
    expect(ids.sort()).toEqual(['bob', 'cleo', ...burst].sort())
  },
)
