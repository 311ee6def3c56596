/** The headers of a stream's response. */
import type { ServerResponse } from 'node:http'
import type { Context } from 'koa'

export const EVENT_STREAM = 'text/event-stream'

const HEADERS = {
  'Content-Type': `${EVENT_STREAM}; charset=utf-8`,
  'Cache-Control': 'no-cache, no-transform',
  // Without this nginx buffers the whole stream.
  'X-Accel-Buffering': 'no',
}
const KEPT_ALIVE = { ...HEADERS, Connection: 'keep-alive' }

/** The headers of the response, except those that the app has set itself. */
export function streamHeaders({ req, res }: Context): Record<string, string> {
  // Forbidden on HTTP/2 (RFC 9113, 8.2.2), unknown to HTTP/1.0, and wrong if the client wants to close.
  const isKeptAlive = req.httpVersion === '1.1' && !/\bclose\b/i.test(req.headers.connection ?? '')
  const headers = isKeptAlive ? KEPT_ALIVE : HEADERS
  if (!res.hasHeader('Cache-Control') && !res.hasHeader('X-Accel-Buffering')) return headers
  const others = Object.entries(headers).filter(
    ([name]) => name === 'Content-Type' || !res.hasHeader(name),
  )
  return { ...Object.fromEntries(others), 'Cache-Control': untransformed(res) }
}

/** The same for a stream that is compressed if the client accepts that, and nothing else does it already. */
export function gzipHeaders(ctx: Context): Record<string, string> {
  const headers = streamHeaders(ctx)
  const compresses = !ctx.res.hasHeader('Content-Encoding') && acceptsGzip(ctx)
  return compresses ? { ...headers, 'Content-Encoding': 'gzip' } : headers
}

function acceptsGzip(ctx: Context): boolean {
  const accepted = String(ctx.req.headers['accept-encoding'] ?? '')
  // All browsers send a list without weights. For `ctx.acceptsEncodings`, Koa would keep a parser with each stream.
  if (!accepted.includes(';')) return /(^|[\s,])gzip([\s,]|$)/i.test(accepted)
  return ctx.acceptsEncodings('gzip', 'identity') === 'gzip'
}

/** Without `no-transform` a proxy may compress the stream, and hold back frames until its buffer is full. */
function untransformed(res: ServerResponse): string {
  const own = String(res.getHeader('Cache-Control') ?? 'no-cache')
  return /\bno-transform\b/i.test(own) ? own : `${own}, no-transform`
}
