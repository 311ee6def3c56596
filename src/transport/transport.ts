/**
 * How bytes reach a client: what differs between HTTP/1 and HTTP/2, and nothing else. Transports
 * keep no state of their own, so a stream costs no object for one.
 */
import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import type { Chunk } from '../event.js'
import { http1 } from './http1.js'
import { http2 } from './http2.js'

export interface Transport<Response> {
  /** Sends the headers and the first bytes. */
  open(res: Response, first: string): void
  /** False: enough for now, wait for `onceDrained`. */
  write(res: Response, chunk: Chunk): boolean
  /** Bytes written that the kernel has not taken yet. */
  bufferedBytes(res: Response): number
  onceDrained(res: Response, listener: () => void): void
  /** Ends the stream cleanly, after what was written. */
  end(res: Response): void
  /** Breaks off so that the client sees a failure and comes back. */
  cut(res: Response): void
  /** Frees the connection of a reader that takes nothing, whatever the client makes of it. */
  destroy(res: Response): void
  /** False once the HTTP server has been told to close. */
  isListening(res: Response): boolean
}

/** A response of either protocol, as Koa has it in `ctx.res`. */
export type AnyResponse = ServerResponse | Http2ServerResponse

export function transportOf(res: AnyResponse): Transport<AnyResponse> {
  return 'createPushResponse' in res
    ? (http2 as Transport<AnyResponse>)
    : (http1 as Transport<AnyResponse>)
}
