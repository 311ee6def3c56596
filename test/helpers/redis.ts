/** A Redis server for one test, on a free loopback port and with a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import net, { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { findProgram } from '../setup/needs.js'
import { freePort } from './net.js'

/** A shell that kills the server when its own input ends, so even if the test process is killed. */
const GUARD = '"$@" & child=$!; read -r _; kill -9 $child; wait'

export class RedisServer {
  readonly port: number
  readonly #folder: string
  readonly #options: readonly string[]
  #guard: ChildProcess | undefined
  #pid = 0
  #admin: Redis | undefined

  static async start(...options: string[]): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-redis-'))
    const server = new RedisServer(await freePort(), folder, options)
    await server.run()
    return server
  }

  /** A server that is not running yet; start it with `run`. */
  static async absent(...options: string[]): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-redis-'))
    return new RedisServer(await freePort(), folder, options)
  }

  private constructor(port: number, folder: string, options: readonly string[]) {
    this.port = port
    this.#folder = folder
    this.#options = options
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** Starts or restarts the server, with the same port and data. */
  async run(...more: string[]): Promise<void> {
    const program = findProgram('redis-server')
    if (!program) throw new Error('redis-server is missing; npm run setup installs it')
    const { port } = this
    const options = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', this.#folder]
    const persistence = ['--save', '', '--appendonly', 'no']
    this.#guard = spawn(
      'sh',
      ['-c', GUARD, 'sh', program, ...options, ...persistence, ...this.#options, ...more],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    let output = ''
    await new Promise<void>((resolve, reject) => {
      this.#guard?.stdout?.on('data', (text: Buffer) => {
        output += text
        const [, pid] = /^(\d+):/m.exec(output) ?? []
        if (pid) this.#pid = Number(pid)
        if (/Failed listening|fatal/i.test(output)) reject(new Error(output))
        if (output.includes('Ready to accept connections')) resolve()
      })
      this.#guard?.once('exit', () => reject(new Error(`redis-server ended:\n${output}`)))
    })
    this.#guard.stdout?.on('data', () => {
      output = ''
    })
  }

  /** Runs a command on an admin connection that `cut` spares, and retries until the server is up. */
  async command(command: string, ...args: (string | number)[]): Promise<unknown> {
    if (this.#admin === undefined) {
      this.#admin = new Redis(this.port, '127.0.0.1', { maxRetriesPerRequest: null })
      this.#admin.on('error', () => {})
    }
    return this.#admin.call(command, args)
  }

  /** Cuts all connections except that of the admin. */
  async cut(): Promise<void> {
    await this.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
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
    this.#admin?.disconnect()
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }
}

/** A TCP proxy between a client and the server that can hold back or drop data. */
export class TcpProxy {
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()
  /** Sockets to the server on which XREAD was sent: those of the reading connections. */
  readonly #reading = new Set<net.Socket>()
  #isHeld = false
  #lostReply: string | undefined
  #onLost = () => {}

  static async to(port: number): Promise<TcpProxy> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new TcpProxy(server, port)
  }

  private constructor(server: net.Server, port: number) {
    this.#server = server
    server.on('connection', near => this.#join(near, net.connect(port, '127.0.0.1')))
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Holds back replies on the reading connections only. */
  holdReading(): void {
    for (const socket of this.#reading) socket.pause()
  }

  /** Cuts the reading connections only, with the replies that were held back. */
  cutReading(): void {
    for (const socket of this.#reading) socket.destroy()
  }

  hold(): void {
    this.#isHeld = true
    for (const socket of this.#sockets) socket.pause()
  }

  release(): void {
    this.#isHeld = false
    for (const socket of this.#sockets) socket.resume()
  }

  /** Forwards the next such command, but cuts the connection instead of forwarding the reply. */
  loseReplyTo(command: string): Promise<void> {
    this.#lostReply = command
    return new Promise(resolve => {
      this.#onLost = resolve
    })
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }

  #join(near: net.Socket, far: net.Socket): void {
    let isReplyLost = false
    near.on('data', chunk => {
      if (chunk.includes('XREAD')) this.#reading.add(far)
      if (this.#lostReply !== undefined && chunk.includes(this.#lostReply)) {
        this.#lostReply = undefined
        isReplyLost = true
      }
      far.write(chunk)
    })
    far.on('data', chunk => {
      if (!isReplyLost) near.write(chunk)
      else {
        near.destroy()
        this.#onLost()
      }
    })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket)
      if (this.#isHeld) socket.pause()
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        this.#reading.delete(socket)
        other.destroy()
      })
    }
  }
}

/** The drivers, each with a function that makes a client, to be closed by `end`. */
export const drivers = {
  'node-redis': (url: string, options: object = {}) => {
    const client = createClient({ url, ...options })
    client.on('error', () => {})
    return { client, end: () => {} }
  },
  ioredis: (url: string, options: object = {}) => {
    const client = new Redis(url, { lazyConnect: true, ...options })
    client.on('error', () => {})
    return { client, end: () => client.disconnect() }
  },
}
