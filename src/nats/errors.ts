/** Turns errors of NATS and its driver into the package's own. */
import { SseError } from '../lib/errors.js'

/**
 * Errors after which nothing was stored: the driver sent nothing, or the server refused. Compared by
 * name, because several copies of the driver's classes may be loaded.
 */
const NOT_STORED = new Set([
  'ClosedConnectionError',
  'DrainingConnectionError',
  'InvalidArgumentError',
  'InvalidSubjectError',
  'JetStreamApiError',
  'JetStreamNotEnabled',
  'NoRespondersError',
  'PermissionViolationError',
])

export function appendError(cause: unknown): SseError {
  const reason = driverError(cause)
  return reason instanceof Error && NOT_STORED.has(reason.name)
    ? downError('not stored', reason)
    : uncertainError(reason)
}

export function downError(what: string, cause: unknown): SseError {
  return new SseError('ERR_SSE_LOG_DOWN', `natsLog(): ${what}: ${messageOf(cause)}`, { cause })
}

export function uncertainError(cause: unknown): SseError {
  const message = `natsLog(): the entry may or may not be stored: ${messageOf(cause)}`
  return new SseError('ERR_SSE_LOG_UNCERTAIN', message, { cause })
}

/** The code of a JetStream API error. */
export function apiCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'number' ? code : undefined
}

/** Whether nothing answers for JetStream or for the subject: the stream may have been deleted. */
export function isNoResponder(error: unknown): boolean {
  return error instanceof Error && error.name === 'JetStreamNotEnabled'
}

/** Errors of the same kind are reported once per outage. */
export function errorKind(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${error.name} ${apiCode(error) ?? error.message}`
}

/** The driver wraps the error of a failed request to add a stack trace; the cause is what matters. */
function driverError(error: unknown): unknown {
  return error instanceof Error && error.name === 'RequestError' ? (error.cause ?? error) : error
}

function messageOf(error: unknown): string {
  if (isNoResponder(error))
    return 'no JetStream answers; is JetStream enabled, and does the stream exist?'
  return error instanceof Error ? error.message : String(error)
}
