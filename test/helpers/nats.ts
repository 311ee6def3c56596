/** A NATS server of the test's own: on a free loopback port, in a folder of its own, ended with it. */
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

/** Its child dies with it, even by SIGKILL: the shell sees its input end. */
const GUARD = '"$@" & child=$!; read -r _; kill -9 $child; wait'

export class NatsServer {
  readonly port: number
  readonly #folder: string
  #guard: ChildProcess | undefined
  #pid = 0
  readonly #connections: NatsConnection[] = []
  #way: Way | undefined

  static async start(): Promise<NatsServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-nats-'))
    const server = new NatsServer(await freePort(), folder)
    await server.run()
    server.#way = await Way.to(server.port)
    return server
  }

  private constructor(port: number, folder: string) {
    this.port = port
    this.#folder = folder
  }

  /** Between the server and those who use {@link connect}. */
  get way(): Way {
    return this.#way as Way
  }

  /** Starts it, or starts it again, on the same port and data. */
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

  /** A connection that never gives up, closed when the server is stopped. */
  async connect(options: NodeConnectionOptions = {}): Promise<NatsConnection> {
    const connection = await connect({
      servers: `127.0.0.1:${this.way.port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
      waitOnFirstConnect: true,
      ...options,
    })
    this.#connections.push(connection)
    return connection
  }

  /** For the test itself, by a way that nothing happens to. */
  direct(): Promise<NatsConnection> {
    return this.connect({ servers: `127.0.0.1:${this.port}` })
  }

  /** The same, to look at streams and change them. */
  async manager(): Promise<JetStreamManager> {
    return jetstreamManager(await this.direct())
  }

  pause(): void {
    process.kill(this.#pid, 'SIGSTOP')
  }

  goOn(): void {
    process.kill(this.#pid, 'SIGCONT')
  }

  /** Kills it as a power failure would. */
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
    this.#way?.close()
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }

  async closeConnections(): Promise<void> {
    await Promise.all(this.#connections.splice(0).map(connection => connection.close()))
  }
}

/** What can happen to bytes on their way to the server and back. */
export class Way {
  readonly port: number
  readonly #server: net.Server
  readonly #sockets = new Set<Socket>()
  #isOpen = true
  /** Whether what the server says is dropped. */
  isMute = false

  static async to(target: number): Promise<Way> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Way(server, target)
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

  /** Holds up all that the server says, until `flow`. */
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

  /** Lets nobody through until it is allowed again. */
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

/** Opens a log and writes down what it tells. */
export function watch(log: EventLog) {
  let window: Entry[] = []
  const resets: string[] = []
  const states: boolean[] = []
  const errors: unknown[] = []
  const checks = new Set<() => void>()
  const told = () => {
    for (const check of checks) check()
  }
  const opened = log.open({
    reset(entries, reason) {
      window = [...entries]
      resets.push(reason)
      told()
    },
    append(entries) {
      window.push(...entries)
      told()
    },
    state(isUp) {
      states.push(isUp)
      told()
    },
    error(error) {
      errors.push(error)
      told()
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
    /** What the entries carry, without the marks. */
    get frames() {
      return window.filter(({ target }) => target !== '').map(({ frame }) => frame)
    },
    get ids() {
      return window.map(({ id }) => id)
    },
    /** Resolves as soon as the condition holds; asked after each thing that is told. */
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

/** Appends a frame for everyone, with a nonce of its own unless it is given one. */
export function append(log: EventLog, frame: string, nonce = `nonce${nonces++}`): Promise<string> {
  return log.append({ nonce, target: '*', frame })
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
