/** A NATS server for one test, on a free loopback port and with a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net, { type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection, type NodeConnectionOptions } from '@nats-io/transport-node'
import { onTestFinished } from 'vitest'
import type { Entry, EventLog } from '../../src/log/log.js'
import { findProgram } from '../setup/needs.js'
import { freePort } from './net.js'

/** A shell that kills the server when its own input ends, so even if the test process is killed. */
const GUARD = '"$@" & child=$!; read -r _; kill -9 $child; wait'

export class NatsServer {
  readonly port: number
  readonly #folder: string
  #guard: ChildProcess | undefined
  #pid = 0
  readonly #connections: NatsConnection[] = []
  #proxy: TcpProxy | undefined

  static async start(): Promise<NatsServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-nats-'))
    const server = new NatsServer(await freePort(), folder)
    await server.run()
    server.#proxy = await TcpProxy.to(server.port)
    return server
  }

  private constructor(port: number, folder: string) {
    this.port = port
    this.#folder = folder
  }

  /** The proxy between the server and the connections made by {@link connect}. */
  get proxy(): TcpProxy {
    return this.#proxy as TcpProxy
  }

  /** Starts or restarts the server, with the same port and data. */
  async run(): Promise<void> {
    const program = findProgram('nats-server')
    if (!program) throw new Error('nats-server is missing; npm run setup installs it')
    const config = join(this.#folder, 'nats.conf')
    await writeFile(
      config,
      `listen: "127.0.0.1:${this.port}"\nmax_payload: 8MB\njetstream { store_dir: "${this.#folder}" }\n`,
    )
    const command = ['-c', GUARD, 'sh', program, '--config', config]
    this.#guard = spawn('sh', command, { stdio: ['pipe', 'ignore', 'pipe'] })
    let output = ''
    await new Promise<void>((resolve, reject) => {
      this.#guard?.stderr?.on('data', (text: Buffer) => {
        output += text
        const [, pid] = /^\[(\d+)\]/m.exec(output) ?? []
        if (pid) this.#pid = Number(pid)
        if (output.includes('[FTL]')) reject(new Error(output))
        if (output.includes('Server is ready')) resolve()
      })
      this.#guard?.once('exit', () => reject(new Error(`nats-server ended:\n${output}`)))
    })
    this.#guard.stderr?.on('data', () => {
      output = ''
    })
  }

  /** A connection that keeps reconnecting until `stop` closes it. */
  async connect(options: NodeConnectionOptions = {}): Promise<NatsConnection> {
    const connection = await connect({
      servers: `127.0.0.1:${this.proxy.port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
      waitOnFirstConnect: true,
      ...options,
    })
    this.#connections.push(connection)
    return connection
  }

  /** A connection for the test itself, which bypasses the proxy. */
  direct(): Promise<NatsConnection> {
    return this.connect({ servers: `127.0.0.1:${this.port}` })
  }

  /** A manager over a direct connection, to inspect and change streams. */
  async manager(): Promise<JetStreamManager> {
    return jetstreamManager(await this.direct())
  }

  pause(): void {
    process.kill(this.#pid, 'SIGSTOP')
  }

  resume(): void {
    process.kill(this.#pid, 'SIGCONT')
  }

  /** Kills the server as a power failure would. */
  async kill(): Promise<void> {
    const guard = this.#guard
    if (guard === undefined || guard.exitCode !== null) return
    guard.stdin?.end()
    await once(guard, 'exit')
  }

  async restart(): Promise<void> {
    await this.kill()
    await this.run()
  }

  async stop(): Promise<void> {
    await this.closeConnections()
    this.#proxy?.close()
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }

  async closeConnections(): Promise<void> {
    await Promise.all(this.#connections.splice(0).map(connection => connection.close()))
  }
}

/** A TCP proxy between clients and the server that can cut, stall or drop. */
export class TcpProxy {
  readonly port: number
  readonly #server: net.Server
  readonly #sockets = new Set<Socket>()
  #isOpen = true
  /** Whether data from the server is dropped. */
  isMute = false

  static async to(target: number): Promise<TcpProxy> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new TcpProxy(server, target)
  }

  private constructor(server: net.Server, target: number) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', client => {
      if (!this.#isOpen) {
        client.destroy()
        return
      }
      const upstream = net.connect(target, '127.0.0.1')
      for (const [socket, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#sockets.add(socket)
        socket.setNoDelay()
        socket.on('error', () => {})
        socket.on('close', () => {
          this.#sockets.delete(socket)
          other.destroy()
        })
      }
      client.pipe(upstream)
      upstream.on('data', data => {
        if (!this.isMute) client.write(data)
      })
    })
  }

  /** Holds back data in both directions until `flow`. */
  stall(): void {
    for (const socket of this.#sockets) socket.pause()
  }

  flow(): void {
    for (const socket of this.#sockets) socket.resume()
  }

  /** Cuts all connections, once. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Cuts all connections and accepts no new ones until `allow`. */
  block(): void {
    this.#isOpen = false
    this.cut()
  }

  allow(): void {
    this.#isOpen = true
  }

  close(): void {
    this.#server.close()
    this.cut()
  }
}

/** Opens a log and records every call of its sink. */
export function watch(log: EventLog) {
  let window: Entry[] = []
  const resets: string[] = []
  const states: boolean[] = []
  const errors: unknown[] = []
  const checks = new Set<() => void>()
  const runChecks = () => {
    for (const check of checks) check()
  }
  const opened = log.open({
    reset(entries, reason) {
      window = [...entries]
      resets.push(reason)
      runChecks()
    },
    append(entries) {
      window.push(...entries)
      runChecks()
    },
    state(isUp) {
      states.push(isUp)
      runChecks()
    },
    error(error) {
      errors.push(error)
      runChecks()
    },
  })
  opened.catch(() => {})
  onTestFinished(() => log.close())
  return {
    log,
    opened,
    resets,
    states,
    errors,
    /** The frames of the entries, without the marks. */
    get frames() {
      return window.filter(({ target }) => target !== '').map(({ frame }) => frame)
    },
    get ids() {
      return window.map(({ id }) => id)
    },
    /** Resolves as soon as the condition holds; it is checked after each call of the sink. */
    until: (condition: () => boolean) =>
      new Promise<void>(resolve => {
        const check = () => {
          if (!condition()) return
          checks.delete(check)
          resolve()
        }
        checks.add(check)
        check()
      }),
  }
}

let nonces = 0

/** Appends a frame for everyone, with a new nonce unless one is given. */
export function append(log: EventLog, frame: string, nonce = `nonce${nonces++}`): Promise<string> {
  return log.append({ nonce, target: '*', frame })
}
