/** What was sent before the end arrives, and nothing stays after it. */
import { expect, test } from 'vitest'
import { nextOpen } from './helpers/app.js'
import { connect, serveStreams, testPool } from './helpers/server.js'

test('what was sent before the pool closed arrives before its streams end', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool })
  const client = await connect(origin, '/?id=ada')
  await client.event('sse.cursor')
  await pool.broadcast('back in a minute')
  await pool.close()
  await client.ended
  expect(client.data).toEqual(['back in a minute'])
})

test('what was sent before a stream without resuming was rotated arrives', async () => {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, resume: false })
  const opened = nextOpen(pool)
  const client = await connect(origin, '/?id=ada')
  await client.until(({ comments }) => comments.length > 0)
  void pool.broadcast('last')
  ;(await opened).dismiss('rotated')
  await client.ended
  expect(client.data).toEqual(['last'])
})
