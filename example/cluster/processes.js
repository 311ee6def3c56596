// @ts-check
// The server processes: starts, kills, drains and restarts them, and keeps what each one reports.
import cluster from 'node:cluster'
import { EventEmitter, once } from 'node:events'

const IDLE = { isReady: false, streams: 0, clients: [], replays: 0, gaps: 0 }

/**
 * They are forked by `node:cluster` because the cluster log needs that. With Redis they could just as
 * well run on three machines.
 */
export class Processes extends EventEmitter {
  #all
  #options
  #summary = ''
  #turn = 0
  #isClosing = false

  /**
   * @param {{
   *   exec: string,
   *   ports: number[],
   *   settings: object,
   *   spreadMs: number,
   *   restartMs: number,
   * }} options
   */
  constructor({ exec, ports, ...options }) {
    super()
    this.#options = options
    this.#all = ports.map(
      (port, i) => new ServerProcess('ABC'[i] ?? `${i}`, port, () => this.#check()),
    )
    cluster.setupPrimary({ exec, args: [], execArgv: [] })
  }

  /** Resolves when all of them are ready. */
  async start() {
    for (const one of this.#all) one.start(this.#options.settings)
    while (this.#all.some(({ state }) => state !== 'ready')) await once(this, 'change')
  }

  /** What the page shows. */
  summary() {
    return this.#all.map(({ name, pid, state, report }) => {
      const { isReady: _, ...figures } = report
      return { name, pid, state, ...figures }
    })
  }

  /** The next ready process in turn. */
  next() {
    const ready = this.#all.filter(({ state }) => state === 'ready')
    this.#turn += 1
    return ready[this.#turn % ready.length]
  }

  /** @param {string} name @param {string} action */
  order(name, action) {
    const one = this.#all.find(process => process.name === name)
    if (!one) return false
    if (action === 'kill') one.kill()
    else if (action === 'drain') one.drain(this.#options.spreadMs)
    else if (action === 'start') one.start(this.#options.settings)
    else return false
    return true
  }

  async close() {
    this.#isClosing = true
    await Promise.all(this.#all.map(one => one.close()))
  }

  #check() {
    for (const one of this.#all) {
      if (one.state !== 'down' || one.restart || this.#isClosing) continue
      one.restart = setTimeout(() => one.start(this.#options.settings), this.#options.restartMs)
    }
    const summary = JSON.stringify(this.summary())
    if (summary !== this.#summary) this.emit('change')
    this.#summary = summary
  }
}

class ServerProcess {
  /** @type {'down' | 'starting' | 'ready' | 'draining'} */
  state = 'down'
  report = IDLE
  /** @type {NodeJS.Timeout | undefined} */
  restart
  #worker
  #onChange

  constructor(name, port, onChange) {
    this.name = name
    this.port = port
    this.#onChange = onChange
  }

  get pid() {
    return this.#worker?.process.pid
  }

  start(settings) {
    if (this.state !== 'down') return
    clearTimeout(this.restart)
    this.restart = undefined
    const { name, port } = this
    const worker = cluster.fork({ EXAMPLE_CLUSTER: JSON.stringify({ ...settings, name, port }) })
    this.#worker = worker
    this.#become('starting')
    worker.on('message', ({ report }) => {
      if (!report || this.state === 'down') return
      this.report = report
      this.#become(this.state === 'draining' ? 'draining' : report.isReady ? 'ready' : 'starting')
    })
    worker.once('exit', () => {
      this.report = IDLE
      this.#become('down')
    })
  }

  /** Like a crash: the process has no chance to react. */
  kill() {
    this.#worker?.process.kill('SIGKILL')
  }

  drain(spread) {
    if (this.state !== 'ready') return // it does not listen yet, or is draining already
    this.#worker?.send({ drain: { spread } })
    this.#become('draining')
  }

  /** Tells it to send a number to everyone. False if it could not, or died before it reported back. */
  async publish(n) {
    const worker = this.#worker
    const settled = new AbortController()
    const told = new Promise(resolve => {
      const listen = ({ published }) => published?.n === n && resolve(published.isStored)
      worker.on('message', listen)
      settled.signal.addEventListener('abort', () => worker.off('message', listen))
    })
    // Emitted after the last message, so after everything the process has appended to a cluster log.
    const gone = once(worker, 'disconnect', settled).then(
      () => false,
      () => false,
    )
    if (worker.isConnected()) worker.send({ publish: n }, () => {})
    const isStored = worker.isConnected() ? await Promise.race([told, gone]) : false
    settled.abort()
    return isStored
  }

  async close() {
    clearTimeout(this.restart)
    if (this.state === 'down') return
    const ended = once(this.#worker, 'exit')
    this.drain(0)
    const impatience = setTimeout(() => this.kill(), 3000) // if it hangs, or is still starting
    await ended
    clearTimeout(impatience)
    clearTimeout(this.restart)
  }

  #become(state) {
    this.state = state
    this.#onChange()
  }
}
