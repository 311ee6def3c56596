/** Two processes that serve the same durable streams from one engine, behind a proxy that alternates between them. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DurableStreamsOptions } from 'koa-sse-pool/runs'
import { build } from 'tsup'
import { PostgresServer } from './postgres.js'
import { RedisServer } from './redis.js'

export type ProcessOptions = Omit<DurableStreamsOptions, 'store'> & {
  readonly engine: EngineName
  readonly url: string
}

const ENGINES = {
  Redis: async () => {
    const server = await RedisServer.start()
    return { url: server.url, stop: () => server.stop() }
  },
  PostgreSQL: async () => {
    const server = await PostgresServer.start()
    const url = `postgres://postgres@127.0.0.1:${server.port}/postgres`
    return { url, stop: () => server.stop() }
  },
}

export type EngineName = keyof typeof ENGINES

export const engineNames = Object.keys(ENGINES) as EngineName[]

/** That it listens, or an error that the app was told of. */
export type ProcessNews = { readonly port: number } | { readonly error: string }

export interface DurableProcesses {
  /** Of the proxy: each request goes to the other process than the one before it. */
  readonly origin: string
  /** Of the processes themselves. */
  readonly origins: readonly [string, string]
  /** What the processes have reported. */
  readonly errors: readonly string[]
  stop(): Promise<void>
}

/** Below node_modules, so that packages are found from here. */
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/koa-sse-pool', import.meta.url))

export async function startDurableProcesses(
  name: EngineName,
  options: Omit<ProcessOptions, 'engine' | 'url'> = {},
): Promise<DurableProcesses> {
  await mkdir(CACHE, { recursive: true })
  const outDir = await mkdtemp(join(CACHE, 'durable-'))
  const [engine] = await Promise.all([
    ENGINES[name](),
    build({
      entry: { server: fileURLToPath(new URL('durable-process.ts', import.meta.url)) },
      ...{ outDir, format: 'esm', target: 'node20', config: false, silent: true },
      outExtension: () => ({ js: '.mjs' }),
      skipNodeModulesBundle: true,
    }),
  ])
  const errors: string[] = []
  const args = [
    JSON.stringify({ engine: name, url: engine.url, ...options } satisfies ProcessOptions),
  ]
  const start = async () => {
    const child = fork(join(outDir, 'server.mjs'), args, { execArgv: [] })
    const [news] = (await once(child, 'message')) as [ProcessNews]
    if ('error' in news) throw new Error(news.error)
    child.on('message', (news: ProcessNews) => 'error' in news && errors.push(news.error))
    return { child, port: news.port }
  }
  const [a, b] = await Promise.all([start(), start()])
  const proxy = alternate([a.port, b.port])
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  const originOf = (port: number) => `http://127.0.0.1:${port}`
  return {
    origin: originOf((proxy.address() as AddressInfo).port),
    origins: [originOf(a.port), originOf(b.port)],
    errors,
    async stop() {
      proxy.closeAllConnections()
      proxy.close()
      await Promise.all([end(a.child), end(b.child)])
      await Promise.all([engine.stop(), rm(outDir, { recursive: true })])
    },
  }
}

/** Forwards each request to the next port, whichever connection of the client it came on. */
function alternate(ports: readonly number[]): http.Server {
  const agent = new http.Agent({ keepAlive: true })
  let requests = 0
  const proxy = http.createServer((request, response) => {
    const port = ports[requests % ports.length] as number
    requests += 1
    const { method, url, headers } = request
    const forwarded = http.request({ agent, host: '127.0.0.1', port, method, path: url, headers })
    forwarded.on('response', answer => {
      response.writeHead(answer.statusCode as number, answer.rawHeaders)
      // An answer without a body yet must not wait for one.
      response.flushHeaders()
      answer.on('error', () => response.destroy())
      answer.pipe(response)
    })
    // A process may answer and cut the connection before it has read the whole body.
    forwarded.on('error', () => response.writableEnded || response.destroy())
    response.on('close', () => response.writableFinished || forwarded.destroy())
    request.on('error', () => {})
    request.pipe(forwarded)
  })
  // Otherwise a client on a loaded machine could send a request on a connection that is being closed.
  proxy.keepAliveTimeout = 0
  return proxy
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
