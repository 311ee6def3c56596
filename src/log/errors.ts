/** The errors of a log or store that its engine has caused. */
import { SseError } from '../lib/errors.js'

/**
 * @param code `ERR_SSE_LOG_DOWN`: nothing was stored. `ERR_SSE_LOG_UNCERTAIN`: it may have been.
 * @param what begins with the function that the app has called, such as `redisLog(): not stored`.
 * @param fix what is likely to help, if that is known.
 */
export function engineError(
  code: 'ERR_SSE_LOG_DOWN' | 'ERR_SSE_LOG_UNCERTAIN',
  what: string,
  cause: unknown,
  fix?: string,
): SseError {
  const hint = fix === undefined ? '' : ` (${fix})`
  return new SseError(code, `${what}: ${messageOf(cause)}${hint}`, { cause })
}

/** Node's AggregateError for a host with several addresses has a code but no message. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message || ('code' in error ? String(error.code) : error.name)
}
