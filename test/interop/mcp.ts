/**
 * MCP's client over Streamable HTTP: its POSTs are answered with JSON, and what the server says by itself travels in
 * the client's event stream, which it resumes by `Last-Event-ID`.
 */
import { json } from 'node:stream/consumers'
import { Client as McpClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  isJSONRPCRequest,
  type JSONRPCMessage,
  JSONRPCMessageSchema,
  LoggingMessageNotificationSchema,
  type RequestId,
} from '@modelcontextprotocol/sdk/types.js'
import type Koa from 'koa'
import type { ClientPool } from 'koa-sse-pool'
import type { Start } from './behaviours.js'
import type { Client } from './play.js'
import type { Source, World } from './world.js'

/** The server's half of a session, whose id is that of the pool's client. */
class PoolTransport implements Transport {
  readonly sessionId: string
  onmessage?: Transport['onmessage']
  onclose?: Transport['onclose']
  readonly #pool: ClientPool
  readonly #answers = new Map<RequestId, (message: JSONRPCMessage) => void>()

  constructor(pool: ClientPool, sessionId: string) {
    this.#pool = pool
    this.sessionId = sessionId
  }

  async start(): Promise<void> {}

  async close(): Promise<void> {
    this.onclose?.()
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const isAnswer = !('method' in message) && message.id !== undefined
    const answer = isAnswer ? this.#answers.get(message.id as RequestId) : undefined
    if (answer) answer(message)
    else await this.#pool.send(this.sessionId, { data: message })
  }

  /** The middleware of the route, in front of `sse()`, which answers its GETs. */
  readonly post: Koa.Middleware = async (ctx, next) => {
    if (ctx.method !== 'POST') return next()
    const message = JSONRPCMessageSchema.parse(await json(ctx.req))
    ctx.set('Mcp-Session-Id', this.sessionId)
    const answered = isJSONRPCRequest(message) ? this.#answerTo(message.id) : undefined
    this.onmessage?.(message)
    if (answered) ctx.body = await answered
    else ctx.status = 202
  }

  #answerTo(id: RequestId): Promise<JSONRPCMessage> {
    return new Promise(resolve => {
      this.#answers.set(id, message => {
        this.#answers.delete(id)
        resolve(message)
      })
    })
  }
}

async function mcpSource({ pool }: World): Promise<Source> {
  const server = new Server({ name: 'server', version: '1' }, { capabilities: { logging: {} } })
  const transport = new PoolTransport(pool, 'ada')
  await server.connect(transport)
  return { middleware: transport.post, close: () => server.close() }
}

/** What `server.sendLoggingMessage()` sends. */
const messageOf = (data: unknown, logger?: string) => ({
  jsonrpc: '2.0',
  method: 'notifications/message',
  params: { level: 'info', data, ...(logger !== undefined && { logger }) },
})

function startWith(ask: typeof fetch): Start {
  return async world => {
    const client = new McpClient({ name: 'client', version: '1' })
    client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) =>
      world.show(params.logger ?? 'message', String(params.data)),
    )
    let previous: Error | undefined
    client.onerror = error => {
      // The first is the last of its attempts. The same error twice: the stream was refused at first, and stays away.
      if (/^Maximum reconnection/.test(error.message) || error === previous) world.end()
      previous = error
    }
    const transport = new StreamableHTTPClientTransport(new URL(`${world.origin}/events`), {
      async fetch(url, init) {
        const response = await ask(url, init)
        // It says nothing itself.
        if (response.status === 204) world.end()
        return response
      },
    })
    await client.connect(transport as Transport)
    return () => client.close()
  }
}

const start = startWith(fetch)

const KEEPS_ID = 'a `fetch` of the app repeats the `last-event-id` of the request before'

/** It forgets its cursor when a new connection is cut before anything has arrived. */
const startKeepingId: Start = world => {
  let last: string | null = null
  return startWith((url, init) => {
    const headers = new Headers(init?.headers)
    last = headers.get('last-event-id') ?? last
    if (init?.method === 'GET' && last !== null) headers.set('last-event-id', last)
    return fetch(url, { ...init, headers })
  })(world)
}

const TELLS_GAP = "the server sends a message of its own in a listener of `pool.on('gap')`"

export function mcpClient(name: string): Client {
  return {
    name,
    world: { source: mcpSource, encode: text => JSON.stringify(messageOf(text)) },
    start,
    options: {
      [KEEPS_ID]: startKeepingId,
      [TELLS_GAP](world) {
        world.pool.on('gap', (stream, reason) => {
          stream.send({ data: messageOf(reason, 'sse.gap') })
        })
        return start(world)
      },
    },
  }
}
