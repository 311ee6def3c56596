import { describe, expect, test } from 'vitest'
import { watchCloses } from '../helpers/app.js'
import { connect, serveStreams, testPool } from '../helpers/server.js'
import { type Changes, PROXIES, startProxy } from './proxy.js'

describe.each(PROXIES)('behind %s', name => {
  async function open(changes?: Changes) {
    const pool = testPool({ pingInterval: false })
    const { port } = await serveStreams({ pool })
    const origin = await startProxy(name, [port, port], changes)
    const client = await connect(origin, '/event/push?id=ada')
    expect(pool.has('ada')).toBe(true)
    return { pool, origin, client }
  }

  test('the pool notices at once that a client left, even if nothing is sent', async () => {
    const { pool, client } = await open()
    const closes = watchCloses(pool)
    const begin = performance.now()
    client.close()
    expect(await closes.next).toBe('client')
    expect(performance.now() - begin).toBeLessThan(1000)
    expect(pool.has('ada')).toBe(false)
  })

  if (name === 'haproxy') {
    test('without `option abortonclose` the pool notices by the second frame', async () => {
      const { pool, origin, client } = await open({ without: 'option abortonclose' })
      const closes = watchCloses(pool)
      client.close()
      await client.ended
      // By now the proxy has had enough turns to report it.
      for (let n = 0; n < 10; n++) (await connect(origin, `/event/push?id=${n}`)).close()
      expect(closes.reasons).toEqual([])
      // With the first frame the proxy finds that the client has left, with the second the pool does.
      const atProxy = async () =>
        (await connect(origin, '/event/push?id=later')).event('sse.cursor')
      await pool.send('ada', 'first')
      await atProxy()
      await pool.send('ada', 'second')
      expect(await closes.next).toBe('client')
    })
  }
})
