/**
 * Server-Sent Events for Koa: the middleware, the pool, and the types of everything they offer.
 *
 * @module koa-sse-pool
 */
export { type ClientScript, clientScript } from './koa/client-script.js'
export type { PollAnswer } from './koa/long-poll.js'
export { type SseMiddleware, sse } from './koa/middleware.js'
export type {
  ClientId,
  GivenPool,
  Identity,
  OwnPool,
  RouteOptions,
  SseOptions,
} from './koa/options.js'
export { SseError, type SseErrorCode } from './lib/errors.js'
export type { CloseReason, GapReason } from './lib/reasons.js'
export type { Entry, EventLog, LogSink } from './log/log.js'
export type { Channel, Channels } from './pool/channel.js'
export type { SendOptions, TransactionOptions } from './pool/client.js'
export {
  type ClosablePool,
  type ClosableServer,
  type CloseGracefullyOptions,
  closeGracefully,
} from './pool/close-gracefully.js'
export type { PoolEventMap } from './pool/emitter.js'
export type { PoolOptions } from './pool/options.js'
export { ClientPool } from './pool/pool.js'
export type { Location, PoolCount } from './pool/processes.js'
export type { PoolStats, Refusal } from './pool/stats.js'
export type { EventsOptions, EventTargets, PoolEntry } from './pool/subscription.js'
export type { Client, EventStream } from './stream/event-stream.js'
export type { StreamSource } from './stream/source.js'
export type { EventMap, PoolEvent, Serialize, StreamEvent } from './wire/event.js'
