import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { EventSource } from 'eventsource'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { cookieOf, example, origin, post, refusals, startExample } from './order-stats.js'

describe('a ticket for example/order-stats', () => {
  beforeEach(() => startExample())

  test('is only for users who are signed in and may see the figures', async () => {
    expect((await fetch(`${origin}/event/ticket`, { method: 'POST' })).status).toBe(401)
    const Cookie = await cookieOf('bob', 'may not')
    const response = await fetch(`${origin}/event/ticket`, { method: 'POST', headers: { Cookie } })
    expect(response.status).toBe(403)
  })

  test('opens one stream and nothing after that, signed in or not', async () => {
    const { url, Cookie } = await ticketOf('ada')
    const source = new EventSource(url)
    onTestFinished(() => source.close())
    await once(source as unknown as NodeJS.EventEmitter & EventTarget, 'snapshot')
    await isRefused(url)
    await isRefused(url, { Cookie })
    expect(refusals).toEqual(['spent', 'spent'])
    expect(example.pool.stats()).toMatchObject({ opened: 1, streams: 1 })
  })

  test('is worthless after half a minute', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const { url, Cookie } = await ticketOf('ada')
    vi.advanceTimersByTime(30_000)
    await isRefused(url, { Cookie })
    expect(refusals).toEqual(['expired'])
  })

  test('is required of everyone, even when signed in, and is of no use on another origin', async () => {
    const { url, Cookie } = await ticketOf('ada')
    await isRefused(`${origin}/event/stats`, { Cookie })
    await isRefused(`${origin}/event/stats?ticket=${Cookie}`, { Cookie })
    await isRefused(`${url}x`)
    await isRefused(url, { Origin: 'http://evil.example' })
    expect(refusals).toEqual(['missing', 'malformed', 'signature', 'origin'])
  })

  test('ends with the sign-in', async () => {
    const { url, Cookie } = await ticketOf('ada')
    await fetch(`${origin}/session`, { method: 'DELETE', headers: { Cookie } })
    await isRefused(url)
    expect(refusals).toEqual(['revoked'])
  })

  async function ticketOf(name: string) {
    const Cookie = await cookieOf(name, 'may look')
    const headers = { Cookie, Origin: origin }
    const response = await fetch(`${origin}/event/ticket`, { method: 'POST', headers })
    const { ticket } = (await response.json()) as { ticket: string }
    return { Cookie, url: `${origin}/event/stats?ticket=${ticket}` }
  }

  async function isRefused(url: string, headers: Record<string, string> = {}): Promise<void> {
    const response = await fetch(url, { headers })
    expect(response.status).toBe(401)
    expect(await response.text()).toBe('Unauthorized')
    expect(response.headers.getSetCookie()).toEqual([])
  }
})

describe('POST /orders', () => {
  beforeEach(() => startExample())

  test('refuses what the shop does not have, and days that do not exist or are in the future', async () => {
    const problems: [object, string][] = [
      [{}, 'no such product'],
      [{ product: 'constructor' }, 'no such product'],
      [{ product: 'cup', day: 'yesterday' }, 'no such day'],
      [{ product: 'cup', day: '2025-02-30' }, 'no such day'],
      [{ product: 'cup', day: '9999-01-01' }, 'no such day'],
      [{ product: 'cup', day: 7 }, 'no such day'],
    ]
    for (const [body, problem] of problems) {
      const response = await post('orders', body)
      expect([body, response.status, await response.text()]).toEqual([body, 400, problem])
    }
  })
})

test('the PostgreSQL of example/order-stats ends and leaves nothing behind, even if node is killed', async () => {
  const TMPDIR = await mkdtemp(join(tmpdir(), 'koa-sse-pool-orders-'))
  onTestFinished(() => rm(TMPDIR, { recursive: true, force: true }))
  // Run as root, the example starts PostgreSQL as the user nobody, which must be able to enter.
  await chmod(TMPDIR, 0o755)
  const file = fileURLToPath(new URL('../../example/order-stats/server.js', import.meta.url))
  const env = { ...process.env, TMPDIR, PORT: '0', DATABASE_URL: '' }
  const child = spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  await once(createInterface({ input: child.stdout }), 'line')
  expect(await readdir(TMPDIR)).toHaveLength(1)
  child.kill('SIGKILL')
  // This comes when node and all its children, which share its output, have ended.
  await once(child, 'close')
  expect(await readdir(TMPDIR)).toEqual([])
})
