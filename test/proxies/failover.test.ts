import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { RedisServer } from '../helpers/redis.js'
import { Backend } from './backend.js'
import { Page } from './page.js'
import { type Changes, PROXIES, type ProxyName, startProxy } from './proxy.js'

let redis: RedisServer

beforeAll(async () => {
  redis = await RedisServer.start()
})
afterAll(() => redis.stop())

/** The lines that let a proxy answer in place of Node while no process is up. */
const AGAIN: Record<ProxyName, string | RegExp> = {
  nginx: 'error_page',
  haproxy: 'set-status 200',
  caddy: /handle_errors .*?^ {2}\}\n/ms,
}

describe.each(PROXIES)('behind %s', name => {
  async function open(changes?: Changes) {
    await redis.command('DEL', 'log')
    const one = await Backend.start(redis.url)
    const two = await Backend.start(redis.url)
    const origin = await startProxy(name, [one.port, two.port], changes)
    const page = new Page(`${origin}/event/push?id=ada`)
    await page.until(({ opened }) => opened === 1)
    return { one, two, page }
  }

  test('every event is received once and in order, whichever process crashes or stops', async () => {
    const { one, two, page } = await open()
    const sent: string[] = []
    const send = async ({ pool }: Backend, text: string) => {
      sent.push(text)
      await pool.send('ada', text)
    }
    const received = () => page.until(({ data }) => data.length >= sent.length)
    const hasIt = (backend: Backend) => backend.pool.has('ada')

    for (const end of ['crash', 'stop', 'crash'] as const) {
      const [first, second] = hasIt(one) ? [one, two] : [two, one]
      await send(second, `before the ${end}`)
      await received()
      await first[end]()
      await send(second, `after the ${end}`)
      await received()
      expect(hasIt(second)).toBe(true)
      await send(second, 'live')
      await received()
      await first.start()
    }
    expect(page.data).toEqual(sent)
    expect(page.gaps).toBe(0)
  })

  test('a page comes back after a time in which no process was up', async () => {
    const { one, two, page } = await open()
    await one.pool.send('ada', 'before')
    await page.until(({ data }) => data.length === 1)
    await one.crash()
    await two.crash()
    const { opened } = page
    // The proxy answered with empty streams.
    await page.until(page => page.opened >= opened + 2)
    await two.start()
    await two.pool.send('ada', 'missed')
    await page.until(({ data }) => data.length === 2)
    expect(page.data).toEqual(['before', 'missed'])
    expect(page.gaps).toBe(0)
  })

  test('a page comes back if a process dies before it has answered', async () => {
    const server = net.createServer(socket => socket.once('data', () => socket.destroy()))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => {
      server.close()
    })
    const { port } = server.address() as AddressInfo
    const page = new Page(`${await startProxy(name, [port, port])}/event/push?id=ada`)
    await page.until(({ opened }) => opened === 1)
  })

  test('a page stops for good if the proxy answers with an error', async () => {
    const { one, two, page } = await open({ without: AGAIN[name] })
    await one.crash()
    await two.crash()
    await page.until(({ hasStopped }) => hasStopped)
  })
})
