/** The engines that the processes share, each with the faults that it can have. */
import type { EngineName } from '../messages.js'
import type { Engine } from '../scene.js'
import { startNats } from './nats.js'
import { startPostgres } from './postgres.js'
import { startRedis } from './redis.js'
import { startSqlite } from './sqlite.js'

const engines: Record<EngineName, () => Promise<Engine>> = {
  redis: startRedis,
  nats: startNats,
  postgres: startPostgres,
  sqlite: startSqlite,
}

export function startEngine(name: EngineName): Promise<Engine> {
  return engines[name]()
}
