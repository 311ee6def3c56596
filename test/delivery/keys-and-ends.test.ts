/** A stream that ends between an entry with a key and the one that supersedes it; docs/guarantees.md says it gets neither. */
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { nextOpen } from '../helpers/app.js'
import { streamOf } from '../helpers/interior.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'

async function blocked() {
  const pool = testPool({ stallTimeout: 600_000 })
  const { origin } = await serveStreams({ pool })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  const face = await opened
  client.response.pause()
  const stream = streamOf(pool, 'ada')
  while (!stream.isBlocked) {
    await pool.send('ada', 'filler'.padEnd(65_536, '.'))
    await turn()
  }
  return { pool, client, face }
}

test('end() does not deliver an entry that one sent after it supersedes', async () => {
  const { pool, client, face } = await blocked()
  void pool.send('ada', { data: 'before', key: 'other' })
  void pool.send('ada', { data: 'A', key: 'k' })
  face.end('bye')
  void pool.send('ada', { data: 'B', key: 'k' })
  client.response.resume()
  await client.ended
  expect(client.data.filter(data => !data.startsWith('filler'))).toEqual(['before', 'bye'])
})

test('a removal does not deliver an entry that one sent after it supersedes', async () => {
  const { pool, client } = await blocked()
  void pool.send('ada', { data: 'before', key: 'other' })
  void pool.send('ada', { data: 'A', key: 'k' })
  void pool.remove('ada', 'bye')
  void pool.send('ada', { data: 'B', key: 'k' })
  client.response.resume()
  await client.ended
  expect(client.data.filter(data => !data.startsWith('filler'))).toEqual(['before', 'bye'])
})
