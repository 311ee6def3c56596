/**
 * How bytes reach a client: what differs between HTTP/1 and HTTP/2, and nothing else. Transports
 * keep no state of their own, so a stream costs no object for one.
 */
import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Chunk } from '../../wire/event.js'

export interface Transport<Response> {
  /** Sends the headers and the first bytes. */
  open(res: Response, headers: Record<string, string>, first: Chunk): void
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
  /** For a lean stream: the socket, freed of all that HTTP needs; undefined if it cannot be. */
  detach?(res: Response): Socket | undefined
  /** The server that the connection came by. */
  server(res: Response): Server | undefined
}

/** A response of either protocol, as Koa has it in `ctx.res`. */
export type AnyResponse = ServerResponse | Http2ServerResponse

/** What a stream writes to: a response, or the socket of a lean one. */
export type Outlet = AnyResponse | Socket
