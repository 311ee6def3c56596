// @ts-check
// Runs the engines' servers on a free loopback port, in a temporary folder, on the client's core.
import { fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pin } from '../parts/worker.js'

/**
 * @typedef Service
 * @property {string} program
 * @property {(port: number, folder: string) => string[]} args
 * @property {string} ready what it prints when it is ready
 * @property {string} scheme
 */

/** Configured as docs/scaling.md recommends. @type {Record<string, Service>} */
const SERVICES = {
  redis: {
    program: 'redis-server',
    args: (port, folder) => [
      ...['--port', String(port), '--bind', '127.0.0.1', '--dir', folder],
      ...['--save', '', '--appendonly', 'yes', '--maxmemory-policy', 'noeviction'],
    ],
    ready: 'Ready to accept connections',
    scheme: 'redis://',
  },
  nats: {
    program: 'nats-server',
    args: (port, folder) => ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', folder],
    ready: 'Server is ready',
    scheme: '',
  },
}

/** Starts PostgreSQL as the example does, since it refuses to run as root and needs a database first. */
const POSTGRES = fileURLToPath(new URL('../../example/order-stats/postgres.js', import.meta.url))

/** Whether the program is installed, or Node has it. @param {string} name */
export function isHere(name) {
  if (name === 'sqlite') return process.getBuiltinModule?.('node:sqlite') !== undefined
  const service = SERVICES[name]
  return service === undefined || spawnSync(service.program, ['--version']).status === 0
}

/**
 * Runs the service while `work` uses its address and a function that returns its CPU time in µs. For an
 * engine without a service, the address is empty and the CPU time is that of this process.
 *
 * @template Result
 * @param {string} name @param {(address: string, cpu: () => number) => Promise<Result>} work
 * @returns {Promise<Result>}
 */
export async function withService(name, work) {
  const service = SERVICES[name]
  if (name === 'postgres') return withPostgres(work)
  if (name === 'sqlite') return withFile(work)
  if (service === undefined) return work('', ownCpu)
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-bench-'))
  const port = await freePort()
  const [program = '', ...args] = [...pin('client'), service.program, ...service.args(port, folder)]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'exit')
  try {
    await isReady(child, service)
    return await work(`${service.scheme}127.0.0.1:${port}`, () => cpuOf(Number(child.pid)))
  } finally {
    child.kill('SIGKILL')
    await ended
    await rm(folder, { recursive: true })
  }
}

/**
 * Each process does the work of the engine itself, so no other CPU time is measured.
 *
 * @template Result
 * @param {(address: string, cpu: () => number) => Promise<Result>} work
 */
async function withFile(work) {
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-bench-'))
  try {
    return await work(join(folder, 'bench.db'), () => Number.NaN)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/**
 * Its processes each have a CPU time of their own, so the sum of them is not measured. It runs without fsync, so
 * a commit does not wait for the disk; that of Redis does not either.
 *
 * @template Result
 * @param {(address: string, cpu: () => number) => Promise<Result>} work
 */
async function withPostgres(work) {
  const [program = process.execPath, ...args] = pin('client')
  const isPinned = program !== process.execPath
  const options = isPinned ? { execPath: program, execArgv: [...args, process.execPath] } : {}
  const keeper = fork(POSTGRES, { ...options, detached: true })
  const ended = once(keeper, 'exit')
  try {
    const [{ folder, error }] = await once(keeper, 'message')
    if (error) throw new Error(`PostgreSQL did not start: ${error}`)
    const host = encodeURIComponent(folder)
    return await work(`postgresql://postgres@localhost/postgres?host=${host}`, () => Number.NaN)
  } finally {
    keeper.disconnect()
    await ended
  }
}

/** @param {import('node:child_process').ChildProcess} child @param {Service} service */
function isReady(child, { program, ready }) {
  let output = ''
  return new Promise((resolve, reject) => {
    const onData = (/** @type {Buffer} */ text) => {
      // Keeps reading, or a full pipe would block the program.
      if (output.length < 10_000) output += text
      if (output.includes(ready)) resolve(undefined)
    }
    child.stdout?.on('data', onData)
    child.stderr?.on('data', onData)
    child.once('exit', () => reject(new Error(`${program} ended: ${output}`)))
  })
}

/** NaN where the system does not report it. @param {number} pid */
function cpuOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // proc(5): utime and stime are fields 14 and 15, in ticks of 10 ms; the name may contain spaces.
    const [user, system] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
    return (Number(user) + Number(system)) * 10_000
  } catch {
    return Number.NaN
  }
}

function ownCpu() {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** @returns {Promise<number>} */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}
