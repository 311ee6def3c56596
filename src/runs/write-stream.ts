/** PUT, POST and DELETE of durable streams (sections 5.1 to 5.4). */
import type { RunAddition, RunAppended, RunProducer, RunRecord } from '../log/run-store.js'
import { type CreationRequest, creationRequestOf } from './creation-request.js'
import {
  type DurableRequest,
  type DurableStream,
  isClosing,
  Refusal,
  streamOf,
} from './durable-request.js'
import { type ForkPoint, findForkPoint, forkPositionIn, sourceIdOf } from './fork-stream.js'
import { formatOffset } from './offset.js'
import { producerOf } from './producer-headers.js'
import { readBody } from './request-body.js'
import { formatConfig, mimeOf, parseConfig, type StreamConfig } from './stream-config.js'
import { formatOf } from './stream-format.js'

/** How the run of a closed stream has ended. */
const CLOSED = 'closed'

const DEFAULT_TYPE = 'application/octet-stream'

export async function createStream(request: DurableRequest): Promise<void> {
  const { ctx, store, id, root, maxBodyBytes } = request
  const asked = creationRequestOf(ctx)
  const body = await readBody(ctx, maxBodyBytes)
  const existing = await store.get(id)
  if (existing !== undefined && existing.status !== 'expired') {
    return answerExisting(request, asked, existing)
  }
  const point = asked.fork && (await findForkPoint(request, { ...asked, fork: asked.fork }))
  const config = configOf(request, asked, point)
  const entries = [...(point?.prefix ?? []), ...entriesOf(config.contentType, body)]
  const created = await store.create(id, {
    meta: formatConfig(config),
    ttl: config.ttl === undefined ? undefined : config.ttl * 1000,
    expiresAt: config.expiresAt === undefined ? undefined : Date.parse(config.expiresAt),
    maxLength: request.maxStreamLength,
    entries,
    ending: isClosing(ctx) ? CLOSED : undefined,
    fork: config.fork && { from: config.fork.from, at: point?.sharedTo ?? 0 },
  })
  switch (created.outcome) {
    case 'created':
      if (point !== undefined && point.source.run.generation !== created.run.generation) {
        // What was checked is not what was forked.
        await store.delete(id)
        throw new Refusal(409, 'The stream at Stream-Forked-From was deleted and created again')
      }
      ctx.status = 201
      // Not `ctx.origin`, which is the client's `Origin` in Koa 3.
      ctx.set('Location', `${ctx.protocol}://${ctx.host}${root}${id}`)
      return answerCreated(request, config, created.run)
    case 'exists':
      // Another request was faster.
      return answerExisting(request, asked, created.run)
    case 'no source':
      throw new Refusal(404, 'There is no stream at Stream-Forked-From')
    case 'source deleted':
      throw new Refusal(409, 'The stream at Stream-Forked-From was deleted')
    case 'no position':
      throw new Refusal(400, 'The source does not have the fork offset any more')
  }
}

function answerExisting(request: DurableRequest, asked: CreationRequest, run: RunRecord): void {
  const config = parseConfig(run.meta)
  const isHere = run.status === 'open' || run.status === 'ended'
  const isClosed = run.status === 'ended'
  if (
    config === undefined ||
    // Its forks still need the entries.
    !isHere ||
    isClosed !== isClosing(request.ctx) ||
    !isTypeEqual(asked, config) ||
    !isLifetimeEqual(asked, config) ||
    !isForkEqual(request, asked, config, run)
  ) {
    throw new Refusal(
      409,
      'There is a stream with another configuration, or one whose forks remain',
    )
  }
  request.ctx.status = 200
  answerCreated(request, config, run)
}

function answerCreated({ ctx }: DurableRequest, config: StreamConfig, run: RunRecord): void {
  ctx.set('Content-Type', config.contentType)
  ctx.set('Stream-Next-Offset', formatOffset(run.tail, run))
  if (run.status === 'ended') ctx.set('Stream-Closed', 'true')
  ctx.body = ''
}

function isTypeEqual({ contentType, fork }: CreationRequest, config: StreamConfig): boolean {
  if (contentType === undefined && fork !== undefined) return true
  return mimeOf(contentType ?? DEFAULT_TYPE) === mimeOf(config.contentType)
}

function isLifetimeEqual({ ttl, expiresAt }: CreationRequest, config: StreamConfig): boolean {
  if (config.inheritsExpiry) return ttl === undefined && expiresAt === undefined
  const isTimeEqual =
    expiresAt === undefined || config.expiresAt === undefined
      ? expiresAt === config.expiresAt
      : Date.parse(expiresAt) === Date.parse(config.expiresAt)
  return ttl === config.ttl && isTimeEqual
}

/** An omitted offset equals the one that was chosen then, because the tail of now is another one. */
function isForkEqual(
  request: DurableRequest,
  { fork }: CreationRequest,
  config: StreamConfig,
  run: RunRecord,
): boolean {
  if (fork === undefined || config.fork === undefined) return fork === config.fork
  const { from, at, sub } = config.fork
  if (sourceIdOf(fork, request) !== from || fork.sub !== sub) return false
  return fork.offset === undefined || forkPositionIn(run, fork.offset) === at
}

function configOf(
  request: DurableRequest,
  { contentType, ttl, expiresAt, fork }: CreationRequest,
  point: ForkPoint | undefined,
): StreamConfig {
  if (fork === undefined || point === undefined) {
    return { contentType: contentType ?? DEFAULT_TYPE, ttl, expiresAt }
  }
  const { source, at } = point
  const inheritsExpiry = ttl === undefined && expiresAt === undefined
  return {
    contentType: contentType ?? source.config.contentType,
    ttl: inheritsExpiry ? source.config.ttl : ttl,
    expiresAt: inheritsExpiry ? source.config.expiresAt : expiresAt,
    inheritsExpiry,
    fork: { from: sourceIdOf(fork, request) as string, at, sub: fork.sub },
  }
}

/** @throws Refusal with 400 for a body that is not of the stream's content type. */
function entriesOf(contentType: string, body: Buffer): string[] {
  try {
    return formatOf(contentType).entriesOf(body)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new Refusal(400, `The body is not JSON: ${error.message}`)
  }
}

export async function appendToStream(request: DurableRequest): Promise<void> {
  const { ctx, store, id, maxBodyBytes } = request
  const producer = producerOf(ctx)
  const body = await readBody(ctx, maxBodyBytes)
  const closes = isClosing(ctx)
  if (body.length === 0 && !closes) {
    throw new Refusal(
      400,
      'The body is empty; only a request with Stream-Closed: true may have none',
    )
  }
  const contentType = ctx.headers['content-type'] ?? ''
  if (body.length > 0 && contentType === '') throw new Refusal(400, 'Content-Type is missing')
  const stream = streamOf(await store.get(id))
  const addition: RunAddition = {
    entries: checkedEntries(stream, contentType, body),
    ending: closes ? CLOSED : undefined,
    // A stream that was deleted and created again meanwhile is not the one that was checked.
    generation: stream.run.generation,
    producer,
    order: body.length > 0 ? ctx.headers['stream-seq']?.toString() : undefined,
  }
  const appended = await store.append(id, addition)
  answerAppended(request, appended, producer, body.length > 0)
}

/** What is appended: nothing if the stream is closed, which comes before all other conflicts (section 5.2). */
function checkedEntries(
  { run, config }: DurableStream,
  contentType: string,
  body: Buffer,
): readonly string[] {
  if (body.length === 0 || run.status === 'ended') return []
  if (mimeOf(contentType) !== mimeOf(config.contentType)) {
    throw new Refusal(409, `The stream is ${config.contentType}; got ${contentType}`)
  }
  const entries = entriesOf(config.contentType, body)
  if (entries.length === 0)
    throw new Refusal(400, 'The array is empty, so there is nothing to append')
  return entries
}

function answerAppended(
  { ctx }: DurableRequest,
  { outcome, run, producer: known }: RunAppended,
  producer: RunProducer | undefined,
  hasBody: boolean,
): void {
  if (outcome === 'unknown' || run === undefined) {
    // Throws for what there is now, else it is another stream than the one that was checked.
    streamOf(run)
    throw new Refusal(404, 'The stream was deleted')
  }
  const progress = progressOf(run)
  switch (outcome) {
    case 'ended':
      if (!hasBody && producer === undefined) break
      throw new Refusal(409, 'The stream is closed', progress)
    case 'stale epoch':
      throw new Refusal(403, 'The producer has begun a newer epoch', {
        'Producer-Epoch': String(known?.epoch),
      })
    case 'wrong start':
      throw new Refusal(400, 'A new epoch must begin with Producer-Seq 0')
    case 'gap':
      throw new Refusal(409, 'Appends of the producer are missing', {
        'Producer-Expected-Seq': String(known === undefined ? 0 : known.seq + 1),
        'Producer-Received-Seq': String(producer?.seq),
      })
    case 'wrong order':
      throw new Refusal(409, 'Stream-Seq must be greater than that of the last append')
  }
  ctx.set(progress)
  if (producer !== undefined) {
    ctx.set('Producer-Epoch', String(producer.epoch))
    ctx.set('Producer-Seq', String(known?.seq ?? producer.seq))
  }
  const isNewData = outcome === 'appended' && hasBody
  if (producer === undefined || !isNewData) {
    ctx.status = 204
    return
  }
  // Section 5.2.1: this status tells new data of a producer from a duplicate.
  ctx.status = 200
  ctx.body = ''
}

function progressOf(run: RunRecord): Record<string, string> {
  return {
    'Stream-Next-Offset': formatOffset(run.tail, run),
    ...(run.status === 'ended' && { 'Stream-Closed': 'true' }),
  }
}

/** Section 5.4. */
export async function deleteStream({ ctx, store, id }: DurableRequest): Promise<void> {
  streamOf(await store.get(id))
  // Another request may have been faster.
  streamOf(await store.delete(id))
  ctx.status = 204
}
