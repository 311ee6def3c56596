/** The headers of idempotent producers (section 5.2.1). */
import type { Context } from 'koa'
import type { RunProducer } from '../../log/run-store.js'
import { Refusal } from './request.js'

/**
 * Undefined for a request without these headers.
 *
 * @throws Refusal with 400 if some are missing or malformed.
 */
export function producerOf({ headers }: Context): RunProducer | undefined {
  const id = headers['producer-id']?.toString()
  const epoch = headers['producer-epoch']?.toString()
  const seq = headers['producer-seq']?.toString()
  if (id === undefined && epoch === undefined && seq === undefined) return undefined
  if (id === undefined || epoch === undefined || seq === undefined) {
    throw new Refusal(400, 'Producer-Id, Producer-Epoch and Producer-Seq must come together')
  }
  if (id === '') throw new Refusal(400, 'Producer-Id must not be empty')
  return { id, epoch: wholeOf('Producer-Epoch', epoch), seq: wholeOf('Producer-Seq', seq) }
}

function wholeOf(name: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(number)) return number
  throw new Refusal(400, `${name} must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`)
}
