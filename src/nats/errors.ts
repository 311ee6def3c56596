/** What NATS and its driver say when something fails, made into ours. */
import { SseError } from '../lib/errors.js'

/**
 * What the driver throws without having sent anything, and what the server answers that has stored
 * nothing. Told by name, as there may be several copies of the driver's classes.
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

/** Which of JetStream's errors it is. */
export function apiCode(error: unknown): number | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'number' ? code : undefined
}

/** Nobody answers for JetStream, or for the subject: the stream may have been deleted. */
export function isNoResponder(error: unknown): boolean {
  return error instanceof Error && error.name === 'JetStreamNotEnabled'
}

/** Errors of one kind are told once. */
export function errorKind(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${error.name} ${apiCode(error) ?? error.message}`
}

/** A request that fails is wrapped, to show who asked; what matters is why. */
function driverError(error: unknown): unknown {
  return error instanceof Error && error.name === 'RequestError' ? (error.cause ?? error) : error
}

function messageOf(error: unknown): string {
  if (isNoResponder(error)) return 'no JetStream answers: is it enabled, and does the stream exist?'
  return error instanceof Error ? error.message : String(error)
}
