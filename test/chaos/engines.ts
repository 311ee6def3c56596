/** The engines that the processes share, and the faults they can have. */
import type { JetStreamManager } from '@nats-io/jetstream'
import { NatsServer } from '../helpers/nats.js'
import { RedisServer } from '../helpers/redis.js'
import type { EngineName } from './messages.js'

export interface Engine {
  readonly name: EngineName
  /** The port on which the server processes reach it. */
  readonly port: number
  /** Cuts all connections of the server processes. */
  cut(): Promise<void> | void
  freeze(): void
  thaw(): void
  /** Ends it as a power failure would. After `run` it has everything that it acknowledged. */
  kill(): Promise<void>
  run(): Promise<void>
  /** Replaces the log by an empty one. */
  empty(): Promise<void>
  /** Removes all entries; the log is still the same. */
  trim(): Promise<void>
  /** Ends it and starts it without its data. */
  wipe(): Promise<void>
  stop(): Promise<void>
}

export async function startEngine(name: EngineName): Promise<Engine> {
  return name === 'redis' ? startRedis() : startNats()
}

async function startRedis(): Promise<Engine> {
  const server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always')
  // Each generation has a folder of its own, so that data of an earlier one is not read again.
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
