/** Processes that share the Redis log of a test, and the conditions that tests wait for. */
import { type RedisLogOptions, redisLog } from 'koa-sse-pool/redis'
import { expect, onTestFinished } from 'vitest'
import { type LogProcess, start } from '../../src/testing/process.js'
import { drivers, RedisServer, TcpProxy } from './redis.js'

export type DriverName = keyof typeof drivers
/** The names of all drivers. */
export const names = Object.keys(drivers) as DriverName[]

export async function startServer(...options: string[]): Promise<RedisServer> {
  const server = await RedisServer.start(...options)
  onTestFinished(() => server.stop())
  return server
}

export async function startProxy(server: RedisServer): Promise<TcpProxy> {
  const proxy = await TcpProxy.to(server.port)
  onTestFinished(() => proxy.close())
  return proxy
}

type Options = Partial<RedisLogOptions> & { url: string; driver?: DriverName }

/** Starts a process, whose errors are recorded too, without waiting for its log to open. */
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

/** Waits until this many connections block in XREAD on the server. */
export async function isBlocked(server: RedisServer, count = 1) {
  const info = async () => String(await server.command('INFO', 'clients'))
  await expect.poll(info).toContain(`blocked_clients:${count}`)
}

/** Repeats an action until a log that is recovering is no longer down. */
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
