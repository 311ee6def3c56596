import { type JetStreamManager, RetentionPolicy } from '@nats-io/jetstream'
import { expect, test } from 'vitest'
import { resolveNatsOptions } from '../../src/nats/options.js'
import { openStream } from '../../src/nats/stream.js'

const options = resolveNatsOptions({ connection: Promise.resolve() as never, stream: 'log' })
const apiError = (code: number) => Object.assign(new Error(`code ${code}`), { code })
const found = { config: { retention: RetentionPolicy.Limits, subjects: [options.subject] } }

/** A server on which a stream of this name appears just before this process creates it. */
function managerWhere(owner: string): JetStreamManager {
  const answers = [() => Promise.reject(apiError(10_059)), () => Promise.resolve(found)]
  return {
    streams: {
      info: () => answers.shift()?.(),
      add: () => Promise.reject(apiError(10_065)),
      find: async () => owner,
    },
  } as unknown as JetStreamManager
}

test('a stream that another process has just created is used', async () => {
  expect(await openStream(managerWhere('log'), options)).toBe(found)
})

test('a stream of another name with the same subject is an error', async () => {
  await expect(openStream(managerWhere('orders'), options)).rejects.toThrow(
    'the stream "orders" has the subject "log.entries"',
  )
})
