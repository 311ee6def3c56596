/** Which transport a response needs. */
import { http1 } from './http1.js'
import { http2, leaveSession } from './http2.js'
import type { AnyResponse, Outlet, Transport } from './transport.js'

/** The TCP connection or HTTP/2 session that carries the response. */
export function connectionOf(res: AnyResponse): object {
  // Without a socket of Node's, each response counts as a connection of its own.
  return transportOf(res).session?.(res) ?? res.req.socket ?? res
}

/** Before the response has begun: its client is to use another connection for its next requests. */
export function leaveConnection(res: AnyResponse): void {
  const session = transportOf(res).session?.(res)
  if (session !== undefined) leaveSession(session)
  else res.setHeader('Connection', 'close')
}

export function transportOf(res: AnyResponse): Transport<Outlet> {
  return 'createPushResponse' in res ? (http2 as Transport<Outlet>) : (http1 as Transport<Outlet>)
}
