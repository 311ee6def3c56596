/** Which transport a response needs. */
import { http1 } from './http1.js'
import { http2 } from './http2.js'
import type { AnyResponse, Outlet, Transport } from './transport.js'

export function transportOf(res: AnyResponse): Transport<Outlet> {
  return 'createPushResponse' in res ? (http2 as Transport<Outlet>) : (http1 as Transport<Outlet>)
}
