/** The engines that the processes share, and what can happen to them. */
import type { JetStreamManager } from '@nats-io/jetstream'
import { NatsServer } from '../helpers/nats.js'
import { RedisServer } from '../helpers/redis.js'
import type { EngineName } from './messages.js'

export interface Engine {
  readonly name: EngineName
  /** Where the server processes find it. */
  readonly port: number
  /** Cuts all their connections. */
  cut(): Promise<void> | void
  freeze(): void
  thaw(): void
  /** Ends it as a power failure would; `run` brings it back with all that it has acknowledged. */
  kill(): Promise<void>
  run(): Promise<void>
  /** Another log takes the place of this one. */
  empty(): Promise<void>
  /** All entries are removed; the log is still the same. */
  trim(): Promise<void>
  /** It is ended, and comes back without its data. */
  wipe(): Promise<void>
  stop(): Promise<void>
}

export async function startEngine(name: EngineName): Promise<Engine> {
  return name === 'redis' ? startRedis() : startNats()
}

async function startRedis(): Promise<Engine> {
  const server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always')
  // What was there before the first of these is not read again.
  let generation = 0
  const run = () => server.run('--appenddirname', `generation${generation}`)
  await server.kill()
  await run()
  return {
    name: 'redis',
    port: server.port,
    cut: () => server.cut(),
    freeze: () => server.pause(),
    thaw: () => server.resume(),
    kill: () => server.kill(),
    run,
    empty: async () => void (await server.command('FLUSHALL')),
    trim: async () => void (await server.command('XTRIM', 'log', 'MAXLEN', 0)),
    async wipe() {
      await server.kill()
      generation += 1
      await run()
    },
    stop: () => server.stop(),
  }
}

async function startNats(): Promise<Engine> {
  const server = await NatsServer.start()
  const { streams } = (await server.manager()) as JetStreamManager
  return {
    name: 'nats',
    port: server.proxy.port,
    cut: () => server.proxy.cut(),
    freeze: () => server.pause(),
    thaw: () => server.resume(),
    kill: () => server.kill(),
    run: () => server.run(),
    empty: async () => void (await streams.delete('log')),
    trim: async () => void (await streams.purge('log')),
    async wipe() {
      server.proxy.block()
      await streams.delete('log')
      await server.restart()
      server.proxy.allow()
    },
    stop: () => server.stop(),
  }
}
