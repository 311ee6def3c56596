// @ts-check
// The primary: starts and ends the log, three server processes, and the proxy in front of them.
import cluster from 'node:cluster'
import { fileURLToPath } from 'node:url'
import { ClientPool, closeGracefully } from 'koa-sse-pool'
import { runIfMain } from '../shared/serve.js'
import { startControl } from './control.js'
import { makeLog, startStore } from './log.js'
import { startNginx } from './nginx.js'
import { freePorts } from './parts.js'
import { Processes } from './processes.js'
import { startProxy } from './proxy.js'
import { publishInTurn } from './publisher.js'
import { serve } from './worker.js'

/**
 * @param {{
 *   port?: number,
 *   host?: string,
 *   log?: 'redis' | 'cluster',
 *   nginx?: boolean,
 *   everyMs?: number,
 *   retryMs?: number,
 *   spreadMs?: number,
 *   restartMs?: number,
 * }} [options]
 */
export async function start({
  port = 0,
  host = '127.0.0.1',
  log = undefined, // Redis if available
  nginx = process.argv.includes('--nginx'),
  everyMs = 200, // between two numbers
  retryMs = 1000, // until a browser reconnects after a loss
  spreadMs = 2000, // over which a drained process ends its streams
  restartMs = 5000, // until an ended process is started again
} = {}) {
  const store = await startStore(log)
  // The primary needs a pool too, for sending the list of processes. It has no clients.
  const pool = new ClientPool({ log: makeLog(store) })
  const ports = await freePorts(3)
  const processes = new Processes({
    exec: fileURLToPath(import.meta.url),
    ports,
    settings: { store, retryMs },
    spreadMs,
    restartMs,
  })

  // `key`: a page that was away gets only the newest list.
  const tell = () =>
    pool.broadcast({ event: 'processes', key: 'processes', data: processes.summary() })
  processes.on('change', tell)
  let isClosing = false
  pool.on('error', error => isClosing || console.error(String(error)))

  await processes.start()
  const stopped = new AbortController()
  const published = publishInTurn({ pool, processes, everyMs, signal: stopped.signal })
  const control = await startControl(processes)
  const behind = { ports, control: control.port, port, host }
  const front = nginx ? await startNginx(behind) : await startProxy(behind)

  async function close() {
    isClosing = true
    stopped.abort()
    processes.off('change', tell)
    await published
    await processes.close()
    await closeGracefully(control.server, pool, { spread: 500 })
    await front.close()
    await store.close()
  }
  return { port: front.port, store: store.name, pool, processes, close }
}

if (cluster.isWorker) serve()
else runIfMain(import.meta.url, start)
