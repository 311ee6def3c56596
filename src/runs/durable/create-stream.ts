/** PUT of durable streams (sections 4.2 and 5.1). */
import type { RunRecord } from '../../log/run-store.js'
import { formatOffset } from '../offset.js'
import { type CreationRequest, creationRequestOf } from './creation-request.js'
import { type ForkPoint, findForkPoint, forkPositionIn, sourceIdOf } from './fork-stream.js'
import { type DurableRequest, endingOf, Refusal } from './request.js'
import { entriesOf, readBody } from './request-body.js'
import { formatConfig, mimeOf, parseConfig, type StreamConfig } from './stream-config.js'

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
    ending: endingOf(ctx),
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
    isClosed !== (endingOf(request.ctx) !== undefined) ||
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
