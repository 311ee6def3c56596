/**
 * One interface over the two drivers, node-redis and ioredis. A connection uses the address and the
 * credentials of the user's client but none of its queues, and it never reconnects by itself: a
 * command that the driver resends or queues would be stored twice, or after its sender got an error.
 */
import { got } from '../lib/errors.js'

/** The part of a client of the package `redis` (node-redis) that this package uses. */
export interface NodeRedisClient {
  readonly isOpen: boolean
  duplicate(...args: never[]): unknown
  sendCommand(...args: never[]): unknown
}

/** The part of a client of the package `ioredis` that this package uses. */
export interface IoredisClient {
  readonly status: string
  duplicate(...args: never[]): unknown
  call(...args: never[]): unknown
}

/** A client of either driver. */
export type RedisClient = NodeRedisClient | IoredisClient

/**
 * Creates a connection, to be connected by `connect`.
 * @param timeout for connecting, in ms
 * @param onLost called for errors and when the connection ends, so possibly several times
 */
export type CreateConnection = (timeout: number, onLost: (error: Error) => void) => DriverConnection

export interface DriverConnection {
  connect(): Promise<unknown>
  send(args: string[]): Promise<unknown>
  /** Resolves once the subscription stands. From then on the connection can send nothing but PING. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  destroy(): void
}

/**
 * @param where begins the message of an error, as in `redisLog()`
 * @throws TypeError for a value that is not a client, or a client of several nodes.
 */
export function connectionFactory(
  client: unknown,
  where: string,
): {
  createConnection: CreateConnection
  /** To be put before each key: a connection sends keys unchanged. */
  keyPrefix: string
  /** The number of the client's database. */
  database: number
} {
  const given = (typeof client === 'object' && client !== null ? client : {}) as Partial<
    NodeRedisDuplicate & IoredisDuplicate
  >
  if ('slots' in given || 'getMasterNode' in given || 'nodes' in given || 'execute' in given) {
    throw new TypeError(
      `${where}: option "client" must be a client of one node; got one of a cluster, a pool or ` +
        'sentinels; all keys are in one slot, so give it a client of the node that holds the key',
    )
  }
  if (typeof given.duplicate === 'function' && typeof given.call === 'function') {
    const template = given as IoredisDuplicate
    return {
      createConnection: (...args) => ioredis(template, ...args),
      keyPrefix: String(template.options?.keyPrefix ?? ''),
      database: Number(template.options?.db ?? 0),
    }
  }
  if (typeof given.duplicate === 'function' && typeof given.sendCommand === 'function') {
    const template = given as NodeRedisDuplicate
    return {
      createConnection: (...args) => nodeRedis(template, ...args),
      keyPrefix: String(template.options?.keyPrefix ?? ''),
      database: Number(template.options?.database ?? 0),
    }
  }
  // A URL may contain a password, which must not end up in an app's log.
  const came = typeof client === 'string' && client.includes('@') ? 'a URL' : got(client)
  throw new TypeError(
    `${where}: option "client" must be a client made by createClient() of the package "redis" or ` +
      `by new Redis() of "ioredis"; got ${came}`,
  )
}

interface NodeRedisDuplicate {
  readonly options?: {
    readonly socket?: object
    readonly keyPrefix?: unknown
    readonly database?: unknown
  }
  duplicate(overrides: object): NodeRedisDuplicate
  on(event: string, listener: (error: Error) => void): unknown
  connect(): Promise<unknown>
  sendCommand(args: string[]): Promise<unknown>
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  /** node-redis 5 and newer. */
  destroy?(): void
  /** node-redis 4. */
  disconnect?(): Promise<void>
}

function nodeRedis(
  template: NodeRedisDuplicate,
  timeout: number,
  onLost: (error: Error) => void,
): DriverConnection {
  const client = template.duplicate({
    socket: {
      ...template.options?.socket,
      connectTimeout: timeout,
      reconnectStrategy: false,
      socketTimeout: undefined,
    },
    disableOfflineQueue: true,
    commandsQueueMaxLength: undefined,
    // By default each command gets an AbortSignal with a timer, which makes it five times as slow.
    commandOptions: { timeout: undefined },
    pingInterval: 0,
    // Replies have one shape for both drivers. The options below it require RESP3.
    RESP: 2,
    clientSideCache: undefined,
    emitInvalidate: false,
    maintNotifications: 'disabled',
  })
  client.on('error', onLost)
  client.on('end', () => onLost(new Error('The connection was closed')))
  const destroy = () => {
    try {
      if (client.destroy) client.destroy()
      else client.disconnect?.().catch(() => {})
    } catch {
      // node-redis 5 throws if the client is closed already.
    }
  }
  let isConnecting = false
  let isDestroyed = false
  client.on('connect', () => {
    isConnecting = false
    if (isDestroyed) destroy()
  })
  return {
    connect() {
      isConnecting = true
      return client.connect()
    },
    send: args => client.sendCommand(args),
    subscribe: (channel, listener) => client.subscribe(channel, listener),
    unsubscribe: channel => client.unsubscribe(channel),
    destroy() {
      isDestroyed = true
      // A client destroyed while it connects would connect anyway and stay open, so wait for it.
      if (!isConnecting) destroy()
    },
  }
}

interface IoredisDuplicate {
  readonly options?: {
    readonly sentinels?: unknown
    readonly keyPrefix?: unknown
    readonly db?: unknown
  }
  duplicate(overrides: object): IoredisDuplicate
  on(event: 'error' | 'close' | 'end', listener: (error: Error) => void): unknown
  on(event: 'message', listener: (channel: string, message: string) => void): unknown
  connect(): Promise<unknown>
  call(command: string, args: string[]): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  disconnect(): void
  readonly stream?: { destroy(): void }
}

function ioredis(
  template: IoredisDuplicate,
  timeout: number,
  onLost: (error: Error) => void,
): DriverConnection {
  const client = template.duplicate({
    lazyConnect: true,
    // ioredis puts it before the keys that it recognizes, and channels are named after keys.
    keyPrefix: '',
    // The check needs permission for INFO and hides the LOADING error. Only Sentinel requires it.
    enableReadyCheck: Array.isArray(template.options?.sentinels),
    connectTimeout: timeout,
    retryStrategy: null,
    reconnectOnError: null,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: null,
    enableAutoPipelining: false,
    commandTimeout: undefined,
    blockingTimeout: undefined,
    socketTimeout: undefined,
    stringNumbers: false,
    protocol: 2,
  })
  client.on('error', onLost)
  client.on('close', () => onLost(new Error('The connection was closed')))
  client.on('end', () => onLost(new Error('The connection was closed')))
  const listeners = new Map<string, (message: string) => void>()
  client.on('message', (channel, message) => listeners.get(channel)?.(message))
  return {
    connect: () => client.connect(),
    send: ([command = '', ...args]) => client.call(command, args),
    subscribe(channel, listener) {
      listeners.set(channel, listener)
      return client.subscribe(channel)
    },
    unsubscribe(channel) {
      listeners.delete(channel)
      return client.unsubscribe(channel)
    },
    destroy() {
      client.disconnect()
      // `disconnect` waits for the server to close its side, which a hanging server never does.
      client.stream?.destroy()
    },
  }
}
