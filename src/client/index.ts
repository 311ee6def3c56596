/**
 * For pages: an EventSource that shares one connection between tabs, notices a dead one, sends headers, and
 * says what state it is in. It runs in browsers and needs nothing else of this package.
 *
 * @module koa-sse-pool/client
 */
export {
  type EventOf,
  type GapEvent,
  PoolEventSource,
  type PoolEventSourceConstructor,
  type Status,
  type StatusEvent,
  type TextOf,
} from './event-source.js'
export type { PoolEventSourceOptions } from './options.js'
