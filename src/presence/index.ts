/**
 * Presence: who is in a channel, on all processes.
 *
 * @module koa-sse-pool/presence
 */
export type { PresenceOptions } from './options.js'
export { type Member, Presence, type PresenceEvents } from './presence.js'
export type { TrackedStream } from './snapshots.js'
