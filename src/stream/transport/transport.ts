/**
 * How bytes reach a client: what differs between HTTP/1 and HTTP/2, and nothing else. Transports
 * keep no state of their own, so a stream costs no object for one.
 */
import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Chunk } from '../../wire/event.js'

export interface Transport<Response> {
  /** Calls the listener once the client has left or the response is over. */
  onceGone(res: Response, listener: (this: Response) => void): void
  /** Sends the headers and the first bytes. */
  open(res: Response, headers: Record<string, string>, first: Chunk): void
  /** Returns false when that is enough for now: wait for `onceDrained`. */
  write(res: Response, chunk: Chunk): boolean
  /** Bytes written that the kernel has not taken yet. */
  bufferedBytes(res: Response): number
  /** Calls the listener once more can be written. */
  onceDrained(res: Response, listener: () => void): void
  /**
   * Emits `timeout` once the kernel has taken nothing for so long; 0 for never. Returns false if there is
   * no connection, or another response has it.
   */
  setTimeout(res: Response, milliseconds: number): boolean
  /**
   * Ends the stream cleanly, after what was written.
   *
   * @param isLast the connection must not be used again: the client is to reconnect elsewhere. The same
   * if its server does not listen any more, because `server.close()` waits for the connection.
   */
  end(res: Response, isLast: boolean): void
  /** Breaks off, so that the client sees a failure and reconnects. */
  cut(res: Response): void
  /** Frees the connection of a client that reads nothing, however that looks to the client. */
  destroy(res: Response): void
  /** For a lean stream: takes the socket out of Node's HTTP server; undefined if that is not possible. */
  detach?(res: Response): Socket | undefined
  /** Before the response has begun: its client is to use another connection for its next requests. */
  leave?(res: Response): void
  /** The server that accepted the connection. */
  server(res: Response): Server | undefined
}

/** A response of either protocol, as Koa has it in `ctx.res`. */
export type AnyResponse = ServerResponse | Http2ServerResponse

/** What a stream writes to: a response, or the socket of a lean one. */
export type Outlet = AnyResponse | Socket
