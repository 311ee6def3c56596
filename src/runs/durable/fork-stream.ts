/** Where a fork leaves its source (section 4.2). */
import type { RunRecord } from '../../log/run-store.js'
import { parseOffset } from '../offset.js'
import type { CreationRequest } from './creation-request.js'
import { type DurableRequest, type DurableStream, Refusal } from './request.js'
import { mimeOf, parseConfig } from './stream-config.js'
import { bytesOf, entryOf, formatOf } from './stream-format.js'

type ForkRequest = NonNullable<CreationRequest['fork']>

export interface ForkPoint {
  readonly source: DurableStream
  /** The position of the given offset. */
  readonly at: number
  /** The position up to which entries are shared; greater than `at` by what the sub-offset adds. */
  readonly sharedTo: number
  /** The part of the next entry that the fork begins with. */
  readonly prefix: readonly string[]
}

/** The id of the source; undefined if the path is not below the prefix. */
export function sourceIdOf({ path }: ForkRequest, { root }: DurableRequest): string | undefined {
  return path.startsWith(root) ? path.slice(root.length) : undefined
}

/** @throws Refusal with 404, 409 or 400, as in the protocol's table "Fork creation errors". */
export async function findForkPoint(
  request: DurableRequest,
  { contentType, fork }: CreationRequest & { readonly fork: ForkRequest },
): Promise<ForkPoint> {
  const source = await findSource(request, fork)
  if (contentType !== undefined && mimeOf(contentType) !== mimeOf(source.config.contentType)) {
    throw new Refusal(409, `The source is ${source.config.contentType}; a fork cannot change that`)
  }
  const at = positionOf(fork.offset, source)
  if (fork.sub === 0) return { source, at, sharedTo: at, prefix: [] }
  if (!formatOf(source.config.contentType).isJson) return splitEntry(request, source, at, fork)
  const sharedTo = at + fork.sub
  if (sharedTo > source.run.tail) throw beyond()
  return { source, at, sharedTo, prefix: [] }
}

async function findSource(request: DurableRequest, fork: ForkRequest): Promise<DurableStream> {
  const id = sourceIdOf(fork, request)
  const run = id === undefined ? undefined : await request.store.get(id)
  const config = run && parseConfig(run.meta)
  if (run === undefined || config === undefined || run.status === 'expired') {
    throw new Refusal(404, 'There is no stream at Stream-Forked-From')
  }
  if (run.status === 'deleted') {
    throw new Refusal(409, 'The stream at Stream-Forked-From was deleted')
  }
  return { run, config }
}

/**
 * How clients of the protocol's reference server write the offset of the beginning, and its conformance suite too.
 * Here it would be malformed.
 */
const REFERENCE_BEGINNING = /^0{16}_0{16}$/

/** Undefined for an offset that does not belong to the run. */
export function forkPositionIn(run: RunRecord, offset: string): number | undefined {
  if (REFERENCE_BEGINNING.test(offset)) return 0
  const parsed = parseOffset(offset)
  return parsed?.generation === run.generation ? parsed.position : undefined
}

function positionOf(offset: string | undefined, { run }: DurableStream): number {
  if (offset === undefined) return run.tail
  const position = forkPositionIn(run, offset)
  if (position === undefined)
    throw new Refusal(400, 'Stream-Fork-Offset must be an offset of the source')
  if (position > run.tail) throw beyond()
  return position
}

/** A sub-offset in bytes: the fork's first own entry is the beginning of the source's next one. */
async function splitEntry(
  request: DurableRequest,
  source: DurableStream,
  at: number,
  fork: ForkRequest,
): Promise<ForkPoint> {
  const id = sourceIdOf(fork, request) as string
  const page = await request.store.read(id, at, { entries: 1, length: 1 })
  const entry = page?.after === at ? page.entries[0] : undefined
  const bytes = entry === undefined ? undefined : bytesOf(entry)
  if (bytes === undefined || fork.sub > bytes.length) throw beyond()
  if (fork.sub === bytes.length) return { source, at, sharedTo: at + 1, prefix: [] }
  return { source, at, sharedTo: at, prefix: [entryOf(bytes.subarray(0, fork.sub))] }
}

function beyond(): Refusal {
  return new Refusal(400, 'The fork offset is beyond what the source has')
}
