/** What a `PUT` asks for (sections 4.2 and 5.1). */
import type { Context } from 'koa'
import { Refusal } from './request.js'
import { mimeOf } from './stream-config.js'

export interface CreationRequest {
  /** Undefined if there is none, or none that is valid. */
  readonly contentType: string | undefined
  /** In seconds. */
  readonly ttl: number | undefined
  readonly expiresAt: string | undefined
  readonly fork: ForkRequest | undefined
}

interface ForkRequest {
  /** The path of the source, as clients see it. */
  readonly path: string
  /** Undefined for the tail. */
  readonly offset: string | undefined
  readonly sub: number
}

/** @throws Refusal with 400 for a malformed header. */
export function creationRequestOf({ headers }: Context): CreationRequest {
  const header = (name: string) => headers[name]?.toString()
  const ttl = header('stream-ttl')
  const expiresAt = header('stream-expires-at')
  if (ttl !== undefined && expiresAt !== undefined) {
    throw new Refusal(400, 'Stream-TTL and Stream-Expires-At exclude each other; send one')
  }
  return {
    contentType: contentTypeOf(headers['content-type']),
    ttl: ttl === undefined ? undefined : wholeOf('Stream-TTL', ttl),
    expiresAt: expiresAt === undefined ? undefined : timeOf(expiresAt),
    fork: forkOf(header),
  }
}

const MIME = /^[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+$/

function contentTypeOf(given: string | undefined): string | undefined {
  return given !== undefined && MIME.test(mimeOf(given)) ? given : undefined
}

/** In the only spelling that the protocol allows: no sign, leading zero, fraction or exponent. */
function wholeOf(name: string, text: string): number {
  const number = /^(0|[1-9]\d*)$/.test(text) ? Number(text) : Number.NaN
  // A TTL becomes milliseconds.
  if (Number.isSafeInteger(number * 1000)) return number
  throw new Refusal(400, `${name} must be a whole number such as 3600`)
}

const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i

function timeOf(text: string): string {
  if (RFC_3339.test(text) && !Number.isNaN(Date.parse(text))) return text
  throw new Refusal(400, 'Stream-Expires-At must be a time such as 2030-01-31T12:00:00Z (RFC 3339)')
}

function forkOf(header: (name: string) => string | undefined): ForkRequest | undefined {
  const path = header('stream-forked-from')
  const offset = header('stream-fork-offset')
  const sub = header('stream-fork-sub-offset')
  if (path === undefined) {
    if (offset === undefined && sub === undefined) return undefined
    throw new Refusal(400, 'A fork offset needs Stream-Forked-From')
  }
  return { path, offset, sub: sub === undefined ? 0 : wholeOf('Stream-Fork-Sub-Offset', sub) }
}
