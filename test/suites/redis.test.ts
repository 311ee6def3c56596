import { redisLog } from 'koa-sse-pool/redis'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { drivers, RedisServer } from '../helpers/redis.js'

for (const [name, connect] of Object.entries(drivers)) {
  describe(`the Redis log with ${name}`, () => {
    let server: RedisServer
    beforeAll(async () => {
      server = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always')
    })
    afterAll(() => server.stop())

    eventLogSuite({
      test: (name, run) => test(name, run, 40_000),
      faults: ['cut', 'flush', 'trim', 'stop'],
      async create() {
        await server.command('FLUSHALL')
        const { client, end } = connect(server.url)
        return {
          open: () => redisLog({ client, key: 'log' }),
          close: end,
          cut: () => server.cut(),
          flush: async () => void (await server.command('FLUSHALL')),
          trim: async () => void (await server.command('XTRIM', 'log', 'MAXLEN', 0)),
          stop: () => server.kill(),
          start: () => server.run(),
        }
      },
    })
  })
}
