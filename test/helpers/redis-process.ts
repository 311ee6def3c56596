/** Processes on a Redis log of a test, and what is waited for in them. */
import { type RedisLogOptions, redisLog } from 'koa-sse-pool/redis'
import { expect, onTestFinished } from 'vitest'
import { type LogProcess, start } from '../../src/testing/process.js'
import { drivers, Middleman, RedisServer } from './redis.js'

export type DriverName = keyof typeof drivers
/** Of all drivers. */
export const names = Object.keys(drivers) as DriverName[]

export async function startServer(...options: string[]): Promise<RedisServer> {
  const server = await RedisServer.start(...options)
  onTestFinished(() => server.stop())
  return server
}

export async function startMiddleman(server: RedisServer): Promise<Middleman> {
  const middleman = await Middleman.to(server.port)
  onTestFinished(() => middleman.close())
  return middleman
}

type Options = Partial<RedisLogOptions> & { url: string; driver?: DriverName }

/** A process whose errors are kept too. */
export function begin({ url, driver = 'ioredis', ...options }: Options) {
  const { client, end } = drivers[driver](url)
  const log = redisLog({ client, key: 'log', ...options })
  onTestFinished(async () => {
    await log.close()
    end()
  })
  const errors: Error[] = []
  const { open } = log
  log.open = sink => open.call(log, { ...sink, error: error => errors.push(error as Error) })
  return Object.assign(start(log), { errors })
}

export async function open(options: Options) {
  const process = begin(options)
  await process.opened
  return process
}

export const isDown = (process: LogProcess) => process.until('down', () => !process.isUp)
export const isUp = (process: LogProcess) => process.until('up', () => process.isUp)
export const isReplaced = (process: LogProcess) =>
  process.until('replaced', () => process.resets.includes('replaced'))

/** A connection that waits for new entries, now, in the server. */
export async function isBlocked(server: RedisServer, count = 1) {
  const info = async () => String(await server.command('INFO', 'clients'))
  await expect.poll(info).toContain(`blocked_clients:${count}`)
}

/** Until the log, which is just coming back, takes it. */
export async function retry<T>(action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if ((error as { code?: string }).code !== 'ERR_SSE_LOG_DOWN') throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}
