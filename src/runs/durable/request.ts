/** One request to a durable stream, and how it is refused. */
import { STATUS_CODES } from 'node:http'
import type { Context } from 'koa'
import { isGone } from '../../koa/opening.js'
import type { RunRecord } from '../../log/run-store.js'
import { transportOf } from '../../stream/transport/select.js'
import type { DurableSettings } from './options.js'
import { parseConfig, type StreamConfig } from './stream-config.js'

export interface DurableRequest extends DurableSettings {
  readonly ctx: Context
  /** The id in the store of the stream that the URL names. */
  readonly id: string
  /** The path that a stream's id is appended to, as clients see it. */
  readonly root: string
}

/** Ends the request with this status, text and headers. */
export class Refusal extends Error {
  readonly status: number
  readonly headers: Record<string, string>

  constructor(status: number, text = STATUS_CODES[status], headers: Record<string, string> = {}) {
    super(text)
    this.status = status
    this.headers = headers
  }
}

/** A run that is a stream of this middleware, with its configuration. */
export interface DurableStream {
  readonly run: RunRecord
  readonly config: StreamConfig
}

/**
 * @throws Refusal with 404 if there is no such stream, and 410 if it is deleted but kept for its forks (section
 *   4.2).
 */
export function streamOf(run: RunRecord | undefined): DurableStream {
  const config = run && parseConfig(run.meta)
  // A run that another face of the store has begun is not a stream: its entries are not bytes of a body.
  if (run === undefined || config === undefined || run.status === 'expired') {
    throw new Refusal(404, 'There is no such stream')
  }
  if (run.status === 'deleted') throw new Refusal(410, 'The stream was deleted')
  return { run, config }
}

/**
 * How the request ends the run, if it closes the stream. `Stream-Closed` with a value other than `true` counts as
 * absent (section 4.1).
 */
export function endingOf({ headers }: Context): string | undefined {
  return String(headers['stream-closed']).toLowerCase() === 'true' ? 'closed' : undefined
}

/** Calls the listener when the response is over, in whichever way. */
export function onLeave(ctx: Context, listener: () => void): void {
  const { res } = ctx
  // The client left while the store was read, and there is no event to come.
  if (isGone(ctx)) listener()
  res.once('close', listener)
  transportOf(res).onceAborted?.(res, listener)
}
