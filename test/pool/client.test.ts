/** Calls of `send` and its kin that are wrong out of habit: each error says what to write instead. */
import type { ClientPool } from 'koa-sse-pool'
import { describe, expect, test } from 'vitest'
import { connect, serveStreams, testPool } from '../helpers/server.js'

/** A pool with a client, as JavaScript without types sees it. */
async function untyped() {
  const pool = testPool()
  const { origin } = await serveStreams({ pool, channels: () => ['news'] })
  const client = await connect(origin, '/?id=ada')
  // biome-ignore lint/suspicious/noExplicitAny: the calls are wrong on purpose
  return { pool: pool as any as Record<keyof ClientPool, any>, client }
}

describe('an event in two arguments, as in Socket.IO,', () => {
  test('is refused before anything is stored, and the error shows the event (fault 108)', async () => {
    const { pool } = await untyped()
    const data = { a: 1 }
    const written = "an event is one argument; write { event: 'update', data: … }"
    expect(() => pool.send('ada', 'update', data)).toThrow(new TypeError(`send(): ${written}`))
    expect(() => pool.get('ada').send('update', data)).toThrow(new TypeError(`send(): ${written}`))
    expect(() => pool.broadcast('update', undefined, data)).toThrow(`broadcast(): ${written}`)
    expect(() => pool.channel('news').send('a\nb', undefined, data)).toThrow(
      "channel.send(): an event is one argument; write { event: 'update', data: … }",
    )
    expect(pool.stats().entries).toBe(0)
  })

  test('is refused where options come second, whatever the data is (fault 109)', async () => {
    const { pool } = await untyped()
    const written = `. If "update" is a name, write { event: 'update', data: … }`
    expect(() => pool.broadcast('update', { a: 1 })).toThrow(
      `broadcast(): unknown option "a"; known are except, transaction${written}`,
    )
    for (const [data, described] of [
      ['text', '"text"'],
      [[1], 'an array'],
      [7, '7 (number)'],
      [null, 'null'],
    ]) {
      expect(() => pool.channel('news').send('update', data)).toThrow(
        `channel.send(): options must be an object such as { except: 'ada' }; got ${described}${written}`,
      )
    }
    expect(pool.stats().entries).toBe(0)
  })
})

test('a wrong option of a send names the right one, and a right call still works (fault 109)', async () => {
  const { pool, client } = await untyped()
  expect(() => pool.broadcast({ data: 1 }, { exept: 'ada' })).toThrow(
    new TypeError('broadcast(): unknown option "exept"; did you mean "except"?'),
  )
  expect(() => pool.broadcast({ data: 1 }, 'ada')).toThrow(
    new TypeError(`broadcast(): options must be an object such as { except: 'ada' }; got "ada"`),
  )
  await pool.channel('news').send('one', { except: 'bob' })
  await pool.broadcast('two', undefined)
  await client.until(({ data }) => data.includes('two'))
  expect(client.data).toEqual(['one', 'two'])
})

test.each([
  [5000, 'close(): options must be an object such as { spread: 5000 }; got 5000 (number)'],
  ['5s', 'close(): options must be an object such as { spread: 5000 }; got "5s"'],
  [null, 'close(): options must be an object such as { spread: 5000 }; got null'],
  [{ timeout: 1 }, 'close(): unknown option "timeout"; known are spread'],
])(
  'close(%o) closes nothing, and the error shows the option (fault 109)',
  async (options, message) => {
    const { pool, client } = await untyped()
    expect(() => pool.close(options)).toThrow(new TypeError(message))
    await pool.broadcast('still open')
    await client.until(({ data }) => data.includes('still open'))
  },
)
