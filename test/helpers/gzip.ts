/** A client that reads compressed streams. */
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import { createGunzip } from 'node:zlib'
import { onTestFinished } from 'vitest'
import { TestClient } from './server.js'

/**
 * The response without its compression, in the shape of a response, so that the same test client reads it. It is
 * complete only if the gzip stream is too, checksum and length included.
 */
export function unpacked(response: IncomingMessage): IncomingMessage {
  const gunzip = createGunzip()
  response.pipe(gunzip)
  // Otherwise a response that is cut off would leave the rest waiting.
  response.on('close', () => response.complete || gunzip.destroy())
  const { statusCode, headers } = response
  return Object.defineProperties(gunzip, {
    statusCode: { value: statusCode },
    headers: { value: headers },
    complete: { get: () => response.complete && gunzip.readableEnded },
  }) as unknown as IncomingMessage
}

/** Opens a stream over HTTP/1.1 that accepts gzip, as browsers do. */
export async function connectGzip(
  origin: string,
  path = '/',
  headers: http.OutgoingHttpHeaders = {},
): Promise<TestClient> {
  const request = http.request(`${origin}${path}`, {
    agent: false,
    headers: { Connection: 'keep-alive', 'Accept-Encoding': 'gzip, deflate, br', ...headers },
  })
  request.on('error', () => {})
  request.end()
  onTestFinished(() => {
    request.destroy()
  })
  const [response] = await once(request, 'response')
  return new TestClient(unpacked(response))
}
