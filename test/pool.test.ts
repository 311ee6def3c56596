import { describe, expect, test } from 'vitest'
import { connect, serveStreams, testPool } from './helpers/server.js'

describe('a client pool', () => {
  test('pushes to a client by id', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    const ada = await connect(origin, '/?id=ada')
    const bob = await connect(origin, '/?id=bob')

    await pool.send('ada', { event: 'update', data: { count: 42 } })
    await pool.broadcast('over')

    await ada.until(({ data }) => data.includes('over'))
    await bob.until(({ data }) => data.includes('over'))
    expect(ada.data).toEqual(['{"count":42}', 'over'])
    expect(bob.data).toEqual(['over'])
  })

  test('reads like a Map from id to client', async () => {
    const pool = testPool()
    const { origin } = await serveStreams({ pool })
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=ada')
    await connect(origin, '/?id=bob')

    expect(pool.size).toBe(2)
    expect(pool.connections).toBe(3)
    expect(pool.has('ada')).toBe(true)
    expect(pool.get('ada')?.streams.size).toBe(2)
    expect([...pool.keys()]).toEqual(['ada', 'bob'])
    expect([...pool].map(([id, client]) => id === client.id)).toEqual([true, true])
  })
})
