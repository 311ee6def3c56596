/**
 * OpenTelemetry spans for what a pool does: sends, their deliveries on each process, and streams that open and
 * resume. A delivery is linked to its send, whatever process made it.
 *
 * @module koa-sse-pool/tracing
 */
import {
  type Attributes,
  context,
  type Tracer as OtelTracer,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import { got } from '../lib/errors.js'
import type { CloseReason, GapReason } from '../lib/reasons.js'
import { aBoolean, isFunction, isRecord, optional, type Rule, resolve } from '../lib/rules.js'
import type { TargetAddress } from '../log/log.js'
import { type Hub, hasHub, hubOf } from '../pool/hub.js'
import type { ClientPool } from '../pool/pool.js'
import type { SendTrace, Tracer } from '../pool/tracer.js'
import type { Stream } from '../stream/stream.js'

export interface TracingOptions {
  /** Makes the spans. Default: the provider that was registered globally. */
  tracerProvider?: TracerProvider | undefined
  /** Whether spans name clients by their ids, which may be personal data. Default `false`. */
  clientIds?: boolean | undefined
}

const RULES: Record<keyof TracingOptions, Rule> = {
  tracerProvider: optional(
    'a TracerProvider of OpenTelemetry',
    value => isRecord(value) && isFunction(value.getTracer),
  ),
  clientIds: aBoolean(false),
}

/**
 * Makes spans for what a pool does. What they are called and what they hold is in docs/metrics.md.
 *
 * A send that is sampled stores its `traceparent` with the entry in the log, 57 bytes. It never goes over the
 * wire to a client.
 *
 * @returns a function that stops it.
 * @throws TypeError for an unknown or wrong option, and for a pool that is traced already.
 * @example
 * ```js
 * import { tracing } from 'koa-sse-pool/tracing'
 *
 * tracing(pool)
 * ```
 */
export function tracing<Events extends object>(
  pool: ClientPool<Events>,
  options: TracingOptions = {},
): () => void {
  if (!hasHub(pool)) {
    throw new TypeError(`tracing(): the first argument must be a ClientPool; got ${got(pool)}`)
  }
  const { tracerProvider = trace.getTracerProvider(), clientIds } = resolve(
    'tracing()',
    RULES,
    options,
  ) as TracingOptions & { clientIds: boolean }
  const hub = hubOf(pool)
  if (hub.tracer !== undefined) {
    throw new TypeError(
      'tracing(): this pool is traced already; call the function that the first call returned',
    )
  }
  const tracer = new PoolTracer(hub, tracerProvider.getTracer('koa-sse-pool'), clientIds)
  hub.tracer = tracer
  return () => {
    if (hub.tracer === tracer) hub.tracer = undefined
  }
}

interface Delivery {
  readonly span: Span
  readonly position: number
}

class PoolTracer implements Tracer {
  readonly #hub: Hub
  readonly #tracer: OtelTracer
  readonly #clientIds: boolean
  readonly #opening = new WeakMap<Stream, Span>()
  readonly #resuming = new WeakMap<Stream, Span>()
  /** Deliveries that the pump has not finished, oldest first. */
  #deliveries: Delivery[] = []

  constructor(hub: Hub, tracer: OtelTracer, clientIds: boolean) {
    this.#hub = hub
    this.#tracer = tracer
    this.#clientIds = clientIds
  }

  sending(address: TargetAddress, frame: string): SendTrace {
    const isRemoval = address.kind === 'remove' || address.kind === 'removeMembers'
    const operation = isRemoval ? 'remove' : 'send'
    const span = this.#tracer.startSpan(`${operation} ${destinationOf(address)}`, {
      kind: SpanKind.PRODUCER,
      attributes: {
        ...this.#messaging(operation, 'send', address),
        'messaging.message.body.size': Buffer.byteLength(frame),
      },
    })
    return {
      traceparent: traceparentOf(span.spanContext()),
      follow(stored) {
        stored.then(
          id => span.setAttribute('messaging.message.id', id).end(),
          error => fail(span, error),
        )
      },
    }
  }

  arrived(id: string, address: TargetAddress, streams: number, position: number): void {
    const sent = parseTraceparent(address.trace)
    if (sent === undefined) return
    const span = this.#tracer.startSpan(`deliver ${destinationOf(address)}`, {
      kind: SpanKind.CONSUMER,
      // Of another time and often another process: what is active here is the app's send, or the engine's client.
      root: true,
      links: [{ context: sent }],
      attributes: {
        ...this.#messaging('deliver', 'process', address),
        'messaging.message.id': id,
        'koa_sse_pool.streams': streams,
      },
    })
    this.#deliveries.push({ span, position })
    if (this.#deliveries.length === 1) setImmediate(() => this.#endDeliveries())
  }

  /** Looks once a turn, and only while there are some, so that the pump need not know of them. */
  #endDeliveries(): void {
    const { offered } = this.#hub.pump
    const waiting: Delivery[] = []
    for (const delivery of this.#deliveries) {
      if (delivery.position <= offered) delivery.span.end()
      else waiting.push(delivery)
    }
    this.#deliveries = waiting
    if (waiting.length > 0) setImmediate(() => this.#endDeliveries())
  }

  admitted(stream: Stream, resumes: boolean): void {
    const attributes = {
      'koa_sse_pool.transport': stream.transport,
      'koa_sse_pool.resumes': resumes,
      ...this.#client(stream.id),
    }
    const span = this.#tracer.startSpan('open stream', { attributes })
    this.#opening.set(stream, span)
    if (!resumes) return
    const parent = trace.setSpan(context.active(), span)
    this.#resuming.set(
      stream,
      this.#tracer.startSpan('replay', { attributes: this.#client(stream.id) }, parent),
    )
  }

  opened(stream: Stream): void {
    this.#opening.get(stream)?.end()
    this.#opening.delete(stream)
  }

  resumed(stream: Stream, entries: number): void {
    this.#endReplay(stream, {
      'koa_sse_pool.replay.outcome': 'resumed',
      'koa_sse_pool.replay.entries': entries,
    })
  }

  lost(stream: Stream, reason: GapReason): void {
    this.#endReplay(stream, {
      'koa_sse_pool.replay.outcome': 'gap',
      'koa_sse_pool.gap.reason': reason,
    })
  }

  closed(stream: Stream, reason: CloseReason): void {
    this.#endReplay(stream, { 'koa_sse_pool.replay.outcome': 'closed' })
    const span = this.#opening.get(stream)
    if (span === undefined) return
    this.#opening.delete(stream)
    span.setAttribute('koa_sse_pool.close.reason', reason)
    if (reason === 'error') span.setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }

  #endReplay(stream: Stream, attributes: Attributes): void {
    this.#resuming.get(stream)?.setAttributes(attributes).end()
    this.#resuming.delete(stream)
  }

  #messaging(name: string, type: string, address: TargetAddress): Attributes {
    const isClient = destinationOf(address) === 'client'
    return {
      'messaging.system': 'koa-sse-pool',
      'messaging.operation.name': name,
      'messaging.operation.type': type,
      ...(isClient
        ? this.#client(address.name)
        : { 'messaging.destination.name': address.name || '*' }),
    }
  }

  #client(id: string): Attributes {
    return this.#clientIds ? { 'koa_sse_pool.client.id': id } : {}
  }
}

/** Few names: spans are grouped by theirs. */
function destinationOf({ kind }: TargetAddress): 'everyone' | 'client' | 'channel' {
  if (kind === 'remove') return 'client'
  return kind === 'removeMembers' ? 'channel' : kind
}

function fail(span: Span, error: unknown): void {
  const { code, message } = error as { code?: string; message?: string }
  span.recordException(error as Error)
  span.setAttribute('error.type', code ?? '_OTHER')
  span.setStatus({ code: SpanStatusCode.ERROR, ...(message !== undefined && { message }) })
  span.end()
}

/**
 * [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header). Only of a send that is sampled: a
 * link to a span that nobody kept would lead nowhere.
 */
function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string | undefined {
  return traceFlags & TraceFlags.SAMPLED ? `00-${traceId}-${spanId}-01` : undefined
}

/** Undefined for anything else: it comes from the log, where a newer version may have written it. */
function parseTraceparent(text = ''): SpanContext | undefined {
  const [, traceId, spanId] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(text) ?? []
  if (traceId === undefined || spanId === undefined) return undefined
  return { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
}
