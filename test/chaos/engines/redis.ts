import { RedisServer } from '../../helpers/redis.js'
import type { Engine } from '../scene.js'
import { serverFaults, wipeFault } from './server.js'

export async function startRedis(): Promise<Engine> {
  const server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always')
  // Each generation has a folder of its own, so that data of an earlier one is not read again.
  let generation = 0
  const run = () => server.run('--appenddirname', `generation${generation}`)
  await server.kill()
  await run()
  return {
    name: 'redis',
    address: String(server.port),
    hasRuns: true,
    hasTransactions: false,
    faults: {
      ...serverFaults({
        cut: () => server.cut(),
        freeze: () => server.pause(),
        thaw: () => server.resume(),
        kill: () => server.kill(),
        run,
        empty: async () => void (await server.command('FLUSHALL')),
        trim: async () => void (await server.command('XTRIM', 'log', 'MAXLEN', 0)),
      }),
      ...wipeFault(async () => {
        await server.kill()
        generation += 1
        await run()
      }),
    },
    stop: () => server.stop(),
  }
}
