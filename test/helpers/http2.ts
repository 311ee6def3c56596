/** Clients and certificates for servers that speak HTTP/2 or TLS. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import http2, { type ClientHttp2Session } from 'node:http2'
import { onTestFinished } from 'vitest'
import { TestClient } from './server.js'

/** The key and the certificate of `localhost`. */
export const tls = {
  key: readFileSync(new URL('../fixtures/localhost.key.pem', import.meta.url)),
  cert: readFileSync(new URL('../fixtures/localhost.cert.pem', import.meta.url)),
}

/** An HTTP/2 response in the shape of an HTTP/1 response, so that the same test client reads it. */
export async function connect2(session: ClientHttp2Session, path: string, headers = {}) {
  const stream = session.request({ ':path': path, ...headers })
  stream.on('error', () => {})
  const [answer] = await once(stream, 'response')
  const response = Object.defineProperties(stream, {
    statusCode: { value: answer[':status'] },
    headers: { value: answer },
    complete: {
      get: () => stream.readableEnded && stream.rstCode === http2.constants.NGHTTP2_NO_ERROR,
    },
  })
  return { stream, client: new TestClient(response as unknown as IncomingMessage) }
}

export function session2(origin: string): ClientHttp2Session {
  const session = http2.connect(origin, { ca: tls.cert })
  session.on('error', () => {})
  onTestFinished(() => session.destroy())
  return session
}
