import { natsLog } from 'koa-sse-pool/nats'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { NatsServer } from '../helpers/nats.js'

describe('the NATS log', () => {
  let server: NatsServer
  beforeAll(async () => {
    server = await NatsServer.start()
  })
  afterAll(() => server.stop())

  let count = 0
  eventLogSuite({
    test: (name, run) => test(name, run, 40_000),
    faults: ['cut', 'flush', 'trim', 'stop'],
    async create() {
      const stream = `log${count++}`
      const { streams } = await server.manager()
      return {
        open: () => natsLog({ connection: server.connect(), stream }),
        close: () => server.closeConnections(),
        cut: () => server.proxy.cut(),
        flush: async () => void (await streams.delete(stream)),
        trim: async () => void (await streams.purge(stream)),
        stop: () => server.kill(),
        start: () => server.run(),
      }
    },
  })
})
