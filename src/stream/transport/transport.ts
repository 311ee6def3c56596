/**
 * How bytes reach a client: what differs between HTTP/1 and HTTP/2, and nothing else. Transports
 * keep no state of their own, so a stream costs no object for one.
 */
import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse, Http2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import type { Payload } from '../../wire/payload.js'

/** How a stream is carried: over HTTP/1, over HTTP/2, or by a socket alone; see the option `lean`. */
export type TransportName = 'http1' | 'http2' | 'lean'

export interface Transport<Response> {
  readonly name: TransportName
  /** Sends the headers and the first bytes. */
  open(res: Response, headers: Record<string, string>, first: Payload): void
  /** Returns false when that is enough for now: wait for `onceDrained`. */
  write(res: Response, chunk: Payload): boolean
  /** Bytes written that the kernel has not taken yet. */
  bufferedBytes(res: Response): number
  /** Whether what was written is on its way: not corked, nor waiting for earlier pipelined responses. */
  isSending(res: Response): boolean
  /** Calls the listener once more can be written. */
  onceDrained(res: Response, listener: () => void): void
  /** Emits `timeout` on the response after this time without progress; 0 for never. */
  setTimeout(res: Response, milliseconds: number): void
  /**
   * Ends the stream cleanly, after what was written. With `leave`, the connection takes no further requests, so
   * that the client comes back over another one.
   */
  end(res: Response, leave: boolean): void
  /** Breaks off, so that the client sees a failure and reconnects. */
  cut(res: Response): void
  /** Frees the connection of a client that reads nothing, however that looks to the client. */
  destroy(res: Response): void
  /** The HTTP/2 session that carries the response. */
  session?(res: Response): Http2Session | undefined
  /** Calls the listener when the client leaves in a way that the response does not report by `close`. */
  onceAborted?(res: Response, listener: () => void): void
  /** For a lean stream: takes the socket out of Node's HTTP server; undefined if that is not possible. */
  detach?(res: Response): Socket | undefined
  /** Reads away a request body that nobody reads, once the app has finished with the request. */
  discardBody(res: Response): void
  /** The server that accepted the connection. */
  server(res: Response): Server | undefined
}

/** A response of either protocol, as Koa has it in `ctx.res`. */
export type AnyResponse = ServerResponse | Http2ServerResponse

/** What a stream writes to: a response, or the socket of a lean one. */
export type Outlet = AnyResponse | Socket
