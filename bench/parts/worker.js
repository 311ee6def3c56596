// @ts-check
// A child process that answers requests, on its own core if the machine allows it.
import { fork, spawnSync } from 'node:child_process'
import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const TIMEOUT = 60_000

/** The cores that this process may use. */
const cores = listCores()

/** The server has one core to itself; the client and this process share the other. */
export const isPinned = cores.length > 1 && spawnSync('taskset', ['--version']).status === 0

/** @param {'server' | 'client'} part @returns {string[]} */
export function pin(part) {
  return isPinned ? ['taskset', '-c', String(part === 'server' ? cores[0] : cores[1])] : []
}

/**
 * @typedef Facts what a server reports about itself; a client reports nothing
 * @property {number} port
 * @property {{ port: number, path?: string }} feed where it accepts entries
 * @property {boolean} hasLoop it runs on Node, so its event loop can be measured
 * @property {boolean} replays
 * @property {string | undefined} [path] of a stream
 * @property {boolean} hasRuns a stream reads the run that it names
 * @property {{ client: boolean, channel: boolean }} targets what it can send to
 */

/** The server reported that it cannot be measured. */
export class Skipped extends Error {}

export class Worker {
  #child
  #calls = 0
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map()
  /** @type {Promise<Facts>} */
  ready

  /**
   * @param {string} file @param {'server' | 'client'} part @param {object} [settings]
   * @param {boolean} [isCluster] makes it a worker of `node:cluster`, with this process as the primary
   */
  constructor(file, part, settings = {}, isCluster = false) {
    const path = fileURLToPath(new URL(`../${file}`, import.meta.url))
    // Printing the warnings of a library under load would be measured too.
    const env = { NODE_NO_WARNINGS: '1', BENCH: JSON.stringify(settings) }
    this.#child = isCluster ? forkInCluster(path, part, env) : forkPinned(path, part, env)
    this.ready = new Promise((resolve, reject) => {
      this.#child.on('message', (/** @type {any} */ message) => {
        if (message.ready !== undefined) resolve(message.ready)
        else if (message.skipped !== undefined) reject(new Skipped(message.skipped))
        else {
          const call = this.#waiting.get(message.id)
          this.#waiting.delete(message.id)
          if (message.error) call?.reject(new Error(message.error))
          else call?.resolve(message.result)
        }
      })
      this.#child.on('exit', code => {
        const error = new Error(`${file} ended with ${code}`)
        reject(error)
        for (const call of this.#waiting.values()) call.reject(error)
      })
    })
  }

  /** @param {string} command @param {object} [args] @returns {Promise<any>} */
  ask(command, args) {
    this.#calls += 1
    const id = this.#calls
    const timeout = setTimeout(() => {
      this.#waiting.get(id)?.reject(new Error(`${command}: no answer in ${TIMEOUT} ms`))
    }, TIMEOUT)
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    this.#child.send({ id, command, args })
    return answer.finally(() => clearTimeout(timeout))
  }

  /** Like `ask`, without an answer. @param {string} command @param {object} args */
  tell(command, args) {
    this.#child.send({ command, args })
  }

  /** @param {NodeJS.Signals} signal */
  kill(signal) {
    this.#child.kill(signal)
  }

  async end() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise(resolve => this.#child.once('exit', resolve))
    this.#child.disconnect()
    setTimeout(() => this.#child.kill('SIGKILL'), 5000).unref()
    await ended
  }
}

/** @type {('ignore' | 'inherit' | 'ipc')[]} */
const STDIO = ['ignore', 'ignore', 'inherit', 'ipc']

/** @param {string} path @param {'server' | 'client'} part @param {NodeJS.ProcessEnv} env */
function forkPinned(path, part, env) {
  const [execPath = process.execPath, ...options] = [...pin(part), process.execPath]
  const execArgv = [...options, '--expose-gc']
  return fork(path, { execPath, execArgv, env: { ...process.env, ...env }, stdio: STDIO })
}

/** The cluster module starts Node itself, so the process is pinned afterwards. @type {typeof forkPinned} */
function forkInCluster(path, part, env) {
  cluster.setupPrimary({ exec: path, execArgv: ['--expose-gc'], args: [], stdio: STDIO })
  const child = cluster.fork(env).process
  const [program, ...options] = pin(part)
  if (program) spawnSync(program, ['-a', '-p', ...options, String(child.pid)])
  return child
}

function listCores() {
  try {
    const status = readFileSync('/proc/self/status', 'utf8')
    const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? ''
    return list.split(',').flatMap(range => {
      const [first = 0, last = first] = range.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, i) => first + i)
    })
  } catch {
    return []
  }
}
