/** What must not come back when the window is refilled. */
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { deferred, nextOpen, watchCloses } from '../helpers/app.js'
import { FakeLog } from '../helpers/fake-log.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const entry = (id: string, target: string) => ({ id, target, nonce: id, frame: `data: ${id}\n\n` })

test('a channel joined while behind is not replayed when the window is filled again', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*')]
  const pool = testPool({ log })
  const go = deferred()
  const { origin } = await serveStreams({ pool }, () => go.promise)
  const opened = nextOpen(pool)
  const connecting = connect(origin, '/?id=ada')
  const stream = await opened
  await pool.channel('news').send('before')
  stream.join('news')
  log.reset('trimmed')
  go.resolve()
  const client = await connecting
  await pool.channel('news').send('live')
  await client.until(({ data }) => data.includes('live'))
  expect(client.data).toEqual(['live'])
})

test('a removal from before it came does not end a stream with replay: all when the window is filled again', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*'), entry('2', '-ada'), entry('3', '*')]
  const pool = testPool({ log })
  const closes = watchCloses(pool)
  const go = deferred()
  const { origin } = await serveStreams({ pool, replay: 'all' }, () => go.promise)
  const opened = nextOpen(pool)
  const connecting = connect(origin, '/?id=ada')
  await opened
  log.reset('trimmed')
  go.resolve()
  const client = await connecting
  await client.until(({ text }) => text.includes('id: '))
  await turn()
  expect(closes.reasons).toEqual([])
})

test('a blocked reader still meets a removal from before the log was replaced', async () => {
  const log = new FakeLog()
  log.stored = [entry('1', '*')]
  const pool = testPool({ log })
  const closes = watchCloses(pool)
  const { origin } = await serveStreams({ pool })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  await opened
  const stream = streamOf(pool, 'ada')
  client.response.pause()
  while (!stream.isBlocked) {
    stream.face.send('filler'.padEnd(65_536, '.'))
    await turn()
  }
  await pool.remove('ada')
  log.stored = []
  log.sink.reset([entry('9', '*')], 'replaced')
  client.response.resume()
  expect(await closes.next).toBe('removed')
})
