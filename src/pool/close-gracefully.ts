/** Ends a process in the right order: the pools first, then their servers. */
import type { Http2Session } from 'node:http2'
import { got } from '../lib/errors.js'
import { isWhole, MAX_DELAY, type Rule, resolve } from '../lib/rules.js'

/** What `app.listen()` returns, or a server of `node:http`, `node:https` or `node:http2`. */
export interface ClosableServer {
  close(callback: () => void): unknown
  closeAllConnections?(): void
  on(event: string, listener: (...args: never[]) => void): unknown
}

/** A `ClientPool`, whatever its events are. */
export interface ClosablePool {
  close(options: { spread: number }): Promise<void>
}

/** Options of {@link closeGracefully}. */
export interface CloseGracefullyOptions {
  /**
   * Milliseconds within which the streams are ended, one after another, so that their browsers do not all
   * reconnect at once. Default 5000.
   */
  spread?: number | undefined
  /**
   * Milliseconds that other requests may take once the streams have ended; after that their connections
   * are destroyed. Default 5000.
   */
  timeout?: number | undefined
}

/**
 * Closes a pool and its server so that browsers reconnect to another process, and this process can end.
 *
 * 1. The pool ends its streams within `spread`. Each browser is told when to reconnect, and on another
 *    connection; `pool.isReady` is false, so that a readiness check can tell the proxy to use another
 *    process. Other requests are still served.
 * 2. The server stops listening, and other requests have `timeout` to finish.
 *
 * A process without other work, such as timers or a database, ends by itself then. Send nothing through
 * the pool after that: it rejects with `ERR_SSE_POOL_CLOSED`.
 *
 * Node does not count a connection without any request yet as idle, and browsers open such connections in
 * advance; they are destroyed when `timeout` is over. Over HTTP/2, Node has no way to close a session that was
 * there before and had no stream; the promise resolves all the same when `timeout` is over.
 *
 * @param servers one server or several, as `app.listen()` returns them.
 * @param pools one pool or several. A pool that `sse()` has made for itself is `sse().pool`.
 * @returns resolves when the servers have closed. Rejects if the log of a pool fails to close, after
 * everything else has closed.
 * @throws TypeError for a wrong argument, before anything is closed.
 * @example
 * const server = app.listen(3000)
 * process.once('SIGTERM', () => closeGracefully(server, pool))
 */
export async function closeGracefully(
  servers: ClosableServer | readonly ClosableServer[],
  pools: ClosablePool | readonly ClosablePool[],
  options: CloseGracefullyOptions = {},
): Promise<void> {
  const serverList = [servers].flat() as ClosableServer[]
  const poolList = [pools].flat() as ClosablePool[]
  checkClosable('first', 'a server, as app.listen() returns it, or an array of them', serverList)
  checkClosable('second', 'a ClientPool or an array of them', poolList)
  const { spread, timeout } = resolve('closeGracefully()', RULES, options) as Record<string, number>
  const sessions = newSessions(serverList)
  const closed = await Promise.allSettled(
    poolList.map(pool => pool.close({ spread: spread as number })),
  )
  for (const session of sessions) session.close()
  await Promise.all(serverList.map(server => closeServer(server, timeout as number)))
  for (const session of sessions) session.destroy()
  for (const result of closed) if (result.status === 'rejected') throw result.reason
}

const milliseconds: Rule = {
  default: 5000,
  expected: 'milliseconds, a whole number of at least 0',
  accepts: value => isWhole(value, 0, MAX_DELAY),
}

const RULES: Record<keyof CloseGracefullyOptions, Rule> = {
  spread: milliseconds,
  timeout: milliseconds,
}

function checkClosable(place: string, expected: string, given: readonly unknown[]): void {
  for (const one of given) {
    if (typeof (one as { close?: unknown } | undefined | null)?.close === 'function') continue
    throw new TypeError(
      `closeGracefully(): the ${place} argument must be ${expected}; got ${got(one)}`,
    )
  }
}

/** HTTP/2 sessions that begin from now on: `server.close()` waits for them, and does not close them. */
function newSessions(servers: readonly ClosableServer[]): Set<Http2Session> {
  const sessions = new Set<Http2Session>()
  const add = (session: Http2Session) => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
  }
  for (const server of servers) server.on('session', add)
  return sessions
}

function closeServer(server: ClosableServer, timeout: number): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      server.closeAllConnections?.()
      resolve()
    }, timeout)
    // A server that does not listen yet, or any more, calls back with an error, which is no matter here.
    server.close(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
