import { redisRuns } from 'koa-sse-pool/redis'
import { runStoreSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { drivers, RedisServer } from '../helpers/redis.js'

for (const [name, connect] of Object.entries(drivers)) {
  describe(`runs in Redis with ${name}`, () => {
    let server: RedisServer
    beforeAll(async () => {
      server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always')
    })
    afterAll(() => server.stop())

    runStoreSuite({
      test: (name, run) => test(name, run, 40_000),
      faults: ['cut', 'stop'],
      async create() {
        await server.command('FLUSHALL')
        const { client, end } = connect(server.url)
        return {
          open: () => redisRuns({ client }),
          close: end,
          async cut() {
            await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
            await server.cut()
          },
          stop: () => server.kill(),
          start: () => server.run(),
        }
      },
    })
  })
}
