// @ts-check
// A child process with a way to ask it, on a core of its own where the machine allows it.
import { fork, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const TIMEOUT = 60_000

/** The cores that this process may use. */
const cores = listCores()

/** The server has one to itself; the client and this process share the other. */
export const isPinned = cores.length > 1 && spawnSync('taskset', ['--version']).status === 0

/** @param {'server' | 'client'} part @returns {string[]} */
export function pin(part) {
  return isPinned ? ['taskset', '-c', String(part === 'server' ? cores[0] : cores[1])] : []
}

/**
 * @typedef Facts what a server says of itself; a client says nothing
 * @property {number} port
 * @property {{ port: number, path?: string }} feed where it takes entries
 * @property {boolean} hasLoop it runs on Node, and has an event loop to look at
 * @property {boolean} replays
 * @property {{ client: boolean, channel: boolean }} targets what it can send to
 */

/** The server has said that it cannot be measured. */
export class Skipped extends Error {}

export class Worker {
  #child
  #calls = 0
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map()
  /** @type {Promise<Facts>} */
  ready

  /** @param {string} file @param {'server' | 'client'} part @param {object} [settings] */
  constructor(file, part, settings = {}) {
    const [execPath = process.execPath, ...options] = [...pin(part), process.execPath]
    this.#child = fork(new URL(`../${file}`, import.meta.url), {
      execPath,
      execArgv: [...options, '--expose-gc'],
      // What a library warns of under load is not what is measured.
      env: { ...process.env, NODE_NO_WARNINGS: '1', BENCH: JSON.stringify(settings) },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
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

  /** As `ask`, without an answer. @param {string} command @param {object} args */
  tell(command, args) {
    this.#child.send({ command, args })
  }

  async end() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise(resolve => this.#child.once('exit', resolve))
    this.#child.disconnect()
    setTimeout(() => this.#child.kill('SIGKILL'), 5000).unref()
    await ended
  }
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
