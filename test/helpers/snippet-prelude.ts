/**
 * What the code in the documentation relies on: values from earlier snippets of the page, and the
 * reader's own. This code is checked too, so that it cannot fall behind the package.
 */

/** For code that runs in Node. */
export const SERVER = `
import type { Server } from 'node:http'
import type Router from '@koa/router'
import type { Middleware } from 'koa'
import type { ClientPool as Pool, EventLog, PoolEvent } from 'koa-sse-pool'
import type {} from '@koa/bodyparser'

declare global {
  // Imported or created by an earlier snippet.
  const ClientPool: typeof import('koa-sse-pool').ClientPool
  const clientScript: typeof import('koa-sse-pool').clientScript
  const closeGracefully: typeof import('koa-sse-pool').closeGracefully
  const sse: typeof import('koa-sse-pool').sse
  const redisLog: typeof import('koa-sse-pool/redis').redisLog
  const streamTickets: typeof import('koa-sse-pool/tickets').streamTickets
  const pool: Pool
  const log: EventLog
  const router: Router
  const app: import('koa')
  const server: Server
  const tickets: import('koa-sse-pool/tickets').StreamTickets
  const runs: import('koa-sse-pool/runs').Runs

  // The reader's own.
  const id: string
  const event: PoolEvent
  const user: { id: string }
  const secret: string
  const servers: string[]
  const today: string
  const sessions: Map<string, { user: string }>
  const signedIn: Middleware
  const handler: Middleware
  function serve(pool: Pool): void
  function completions(options: { messages: object[]; signal: AbortSignal }): AsyncIterable<object>
  function generateTokens(options: { signal: AbortSignal }): AsyncIterable<string>
  function queueForLater(id: string, event: PoolEvent): Promise<void>
  function sendReport(): Promise<void>
  function work(job: string): AsyncIterable<number>
  function report(error: unknown): void
  function verify(authorization: string): Promise<{ user: string; expiresAt: number }>
}
`

/** For code that runs in a page. */
export const BROWSER = `
declare global {
  const PoolEventSource: typeof import('koa-sse-pool/client').PoolEventSource
  const token: string
  const events: EventSource
  function connect(): void
  function freshToken(): Promise<string>
  function signIn(): void
  function show(event: unknown, data?: unknown): void

  // In a service worker.
  interface WindowEventMap {
    fetch: Event & { request: Request; respondWith(response: Promise<Response>): void }
  }
}
export {}
`

/** As much of React and Vue as the code for pages uses, and packages from which docs/migrating.md leads away. */
export const MODULES = `
declare module '@jest/globals' {
  export const afterEach: (run: () => unknown) => void
  export const expect: any
  export const test: (name: string, run: () => unknown) => void
}
declare module '@ai-sdk/react' {
  import type { AbstractChat, ChatInit, UIMessage } from 'ai'
  type Chat = Pick<AbstractChat<UIMessage>, 'sendMessage' | 'resumeStream' | 'status' | 'error'>
  export function useChat(
    options: ChatInit<UIMessage> & { resume?: boolean },
  ): Chat & { messages: UIMessage[]; setMessages(messages: any): void }
}
declare module 'react' {
  export function useEffect(effect: () => () => void, dependencies: unknown[]): void
  export function useRef<Value>(value: Value): { current: Value }
  export function useState<Value>(value: Value): [Value, (value: Value) => void]
}
declare module 'better-sse'
declare module 'koa-sse-stream'
declare module 'socket.io'
declare module 'socket.io-client'
declare module 'vue' {
  export function onMounted(run: () => void): void
  export function onUnmounted(run: () => void): void
  export function ref<Value>(value: Value): { value: Value }
}
`

/** The module that a snippet imports as the app under test. */
export const APP = `
import type Koa from 'koa'
import type { ClientPool } from 'koa-sse-pool'

export declare function createApp(): {
  app: Koa
  pool: ClientPool
  signOut(id: string): void
}
export declare function pay(order: { id: number; customer: string }): Promise<void>
`
