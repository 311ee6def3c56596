/** What something else has written into the engine must not reach a socket (fault 70). */
import { describe, expect, test } from 'vitest'
import { FakeLog } from '../helpers/fake-log.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

const FOREIGN: [string, string][] = [
  ['nothing', ''],
  ['no blank line at its end', 'data: swallows the next\n'],
  ['the end id', 'event: close\nid: sse.end\ndata: bye\n\n'],
  ['an id of its own', 'id: 7\ndata: x\n\n'],
  ['a name of ours', 'event: sse.gap\ndata: {"reason":"lagged"}\n\n'],
  ['a second event', 'data: one\n\ndata: two\n\n'],
  ['a comment', ': hello\n\n'],
  ['a carriage return', 'data: a\rid: sse.end\n\n'],
  ['NUL in its name', 'event: a\0b\ndata: x\n\n'],
  ['JSON', '{"type":"update"}'],
]

describe.each(FOREIGN)('an entry with %s', (_, frame) => {
  test.each(['that arrives', 'that the log holds already'])(
    '%s is skipped and counted (fault 70)',
    async when => {
      const log = new FakeLog()
      log.boots = false
      const pool = testPool({ log })
      const { origin } = await serveStreams({ pool, replay: 'all' })
      const entry = { nonce: 'foreign', target: '*', frame }
      log.store('before')
      if (when !== 'that arrives') log.store(entry)
      log.boot()
      const client = await connect(origin, '/?id=ada')
      if (when === 'that arrives') log.store(entry)
      const last = log.store('after')
      log.deliver()
      await client.until(({ data }) => data.includes('after'))
      expect(client.data).toEqual(['before', 'after'])
      expect(client.lastEventId).toBe(last)
      expect(pool.stats()).toMatchObject({ foreign: 1, gaps: 0 })
      // Its place in the log is passed, so a process that has read it is not behind.
      await pool.broadcast('live')
      await client.until(({ data }) => data.includes('live'))
    },
  )
})

test.each([
  'data:\n\n',
  'data: \n\n',
  'data: a\ndata: b\n\n',
  'event: update\nretry: 0\ndata: {"a":1}\n\n',
  'data: id: sse.end\n\n',
  'data: \0\n\n',
])('a frame of our own passes: %j', async frame => {
  const log = new FakeLog()
  const pool = testPool({ log })
  log.store({ nonce: 'n', target: '*', frame })
  log.deliver()
  expect(pool.stats()).toMatchObject({ foreign: 0, entries: 1 })
})
