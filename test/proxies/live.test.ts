import { describe, expect, test } from 'vitest'
import type { Handler } from '../helpers/app.js'
import { serveStreams, testPool } from '../helpers/server.js'
import { Page } from './page.js'
import { type Changes, PROXIES, startProxy } from './proxy.js'

const FRAMES = 20

/** More than a proxy buffers before it decides whether to compress. */
const LONG = 'x'.repeat(10_000)

describe.each(PROXIES)('behind %s', name => {
  async function open(changes: Changes = {}, handler?: Handler) {
    const pool = testPool({ pingInterval: false })
    const { port } = await serveStreams({ pool }, handler)
    const origin = await startProxy(name, [port, port], changes)
    const page = new Page(`${origin}/event/push?id=ada`)
    await page.until(({ opened }) => opened === 1)
    return { pool, page }
  }

  /** Sends each frame when the previous one has arrived; returns the median time in ms. */
  async function pingPong({ pool, page }: Awaited<ReturnType<typeof open>>): Promise<number> {
    const times: number[] = []
    const { length } = page.data
    for (let n = 1; n <= FRAMES; n++) {
      const begin = performance.now()
      await pool.send('ada', `${n}`)
      await page.until(({ data }) => data.length === length + n)
      times.push(performance.now() - begin)
    }
    // The median, because a busy machine is late now and then, a delayed acknowledgement every time.
    return times.sort((a, b) => a - b)[FRAMES / 2] as number
  }

  // Linux delays an acknowledgement by 40 to 200 ms.
  const inTime = 100
  const late = 39

  test('each frame arrives before the next one is sent, and without delay', async () => {
    expect(await pingPong(await open())).toBeLessThan(inTime)
  })

  if (name === 'nginx') {
    test('frames are not delayed on HTTP/1.0, because of `X-Accel-Buffering`', async () => {
      expect(await pingPong(await open({ without: 'proxy_http_version' }))).toBeLessThan(inTime)
    })
  }

  if (name === 'haproxy') {
    test('frames are delayed without `option http-no-delay`', async () => {
      const stream = await open({ without: 'option http-no-delay' })
      expect(await pingPong(stream)).toBeGreaterThan(late)
    })
  }

  test('compression does not hold frames back', async () => {
    const stream = await open({ compresses: true }, ctx => ctx.sse.send(LONG))
    // HAProxy obeys `no-transform`. Caddy does not, but its configuration in the docs excludes streams.
    expect(stream.page.encoding).toBe(name === 'nginx' ? 'gzip' : null)
    await stream.page.until(({ data }) => data[0] === LONG)
    expect(await pingPong(stream)).toBeLessThan(inTime)
  })
})
