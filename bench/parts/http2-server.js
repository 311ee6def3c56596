// @ts-check
// A server for HTTP/2, as browsers use it (over TLS) or as proxies do (without).
import { readFileSync } from 'node:fs'
import { createSecureServer, createServer } from 'node:http2'

/** @param {boolean | undefined} tls @param {(req: any, res: any) => void} [listener] */
export function http2Server(tls, listener) {
  // No memory limit: with fifty streams, a session would refuse some.
  const options = { maxSessionMemory: 1000 }
  return tls
    ? createSecureServer({ ...options, ...certificate() }, listener)
    : createServer(options, listener)
}

function certificate() {
  const folder = new URL('../../test/fixtures/', import.meta.url)
  return {
    key: readFileSync(new URL('localhost.key.pem', folder)),
    cert: readFileSync(new URL('localhost.cert.pem', folder)),
  }
}
