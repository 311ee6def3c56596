/** A process with members on the engine that it is given. It ends when its parent does. */
import { connect } from '@nats-io/transport-node'
import { createClient } from 'redis'
import { ClientPool } from '../../src/index.js'
import { natsLog } from '../../src/nats/index.js'
import { Presence } from '../../src/presence/index.js'
import { redisLog } from '../../src/redis/index.js'

const { engine, port, lease } = JSON.parse(process.argv[2] as string) as {
  engine: 'redis' | 'nats'
  port: number
  lease: number
}

process.on('disconnect', () => process.exit())

const log =
  engine === 'redis'
    ? redisLog({ client: createClient({ url: `redis://127.0.0.1:${port}` }), key: 'presence' })
    : natsLog({
        connection: await connect({ servers: `127.0.0.1:${port}` }),
        stream: 'presence',
      })
const presence = new Presence({ pool: new ClientPool({ log }), lease, grace: 0 })
await presence.ready()
// Each message is the id of a client that has come.
process.on('message', id => {
  presence.track({ id: String(id), closed: new Promise(() => {}) }, 'room')
})
process.send?.('ready')
