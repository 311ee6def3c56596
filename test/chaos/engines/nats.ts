import type { JetStreamManager } from '@nats-io/jetstream'
import { NatsServer } from '../../helpers/nats.js'
import type { Engine } from '../scene.js'
import { serverFaults, wipeFault } from './server.js'

export async function startNats(): Promise<Engine> {
  const server = await NatsServer.start()
  const { streams } = (await server.manager()) as JetStreamManager
  return {
    name: 'nats',
    address: String(server.proxy.port),
    hasRuns: false,
    hasTransactions: false,
    faults: {
      ...serverFaults({
        cut: () => server.proxy.cut(),
        freeze: () => server.pause(),
        thaw: () => server.resume(),
        kill: () => server.kill(),
        run: () => server.run(),
        empty: async () => void (await streams.delete('log')),
        trim: async () => void (await streams.purge('log')),
      }),
      ...wipeFault(async () => {
        server.proxy.block()
        await streams.delete('log')
        await server.restart()
        server.proxy.allow()
      }),
    },
    stop: () => server.stop(),
  }
}
