/**
 * One interface over the two drivers, node-redis and ioredis. A connection uses the address and the
 * credentials of the user's client but none of its queues, and it never reconnects by itself: a
 * command that the driver resends or queues would be stored twice, or after its sender got an error.
 */
import { got } from '../lib/errors.js'

/** The part of a client of the package `redis` (node-redis) that `redisLog` uses. */
export interface NodeRedisClient {
  readonly isOpen: boolean
  duplicate(...args: never[]): unknown
  sendCommand(...args: never[]): unknown
}

/** The part of a client of the package `ioredis` that `redisLog` uses. */
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
  destroy(): void
}

/** @throws TypeError for a value that is not a client, or a client of several nodes. */
export function connectionFactory(client: unknown): {
  createConnection: CreateConnection
  keyPrefix: string
} {
  const given = (typeof client === 'object' && client !== null ? client : {}) as Partial<
    NodeRedisDuplicate & IoredisDuplicate
  >
  if ('slots' in given || 'getMasterNode' in given || 'nodes' in given || 'execute' in given) {
    throw new TypeError(
      'redisLog(): option "client" must be a client of one node; got one of a cluster, a pool or ' +
        'sentinels; a log is one key, so give it a client of the node that holds the key',
    )
  }
  if (typeof given.duplicate === 'function' && typeof given.call === 'function') {
    // ioredis adds its key prefix to raw commands too.
    return {
      createConnection: (...args) => ioredis(given as IoredisDuplicate, ...args),
      keyPrefix: '',
    }
  }
  if (typeof given.duplicate === 'function' && typeof given.sendCommand === 'function') {
    const template = given as NodeRedisDuplicate
    // node-redis sends raw commands unchanged, so the prefix must be added to the key.
    const keyPrefix = String(template.options?.keyPrefix ?? '')
    return { createConnection: (...args) => nodeRedis(template, ...args), keyPrefix }
  }
  // A URL may contain a password, which must not end up in an app's log.
  const came = typeof client === 'string' && client.includes('@') ? 'a URL' : got(client)
  throw new TypeError(
    `redisLog(): option "client" must be a client made by createClient() of the package "redis" or ` +
      `by new Redis() of "ioredis"; got ${came}`,
  )
}

interface NodeRedisDuplicate {
  readonly options?: { readonly socket?: object; readonly keyPrefix?: unknown }
  duplicate(overrides: object): NodeRedisDuplicate
  on(event: string, listener: (error: Error) => void): unknown
  connect(): Promise<unknown>
  sendCommand(args: string[]): Promise<unknown>
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
    destroy() {
      isDestroyed = true
      // A client destroyed while it connects would connect anyway and stay open, so wait for it.
      if (!isConnecting) destroy()
    },
  }
}

interface IoredisDuplicate {
  readonly options?: { readonly sentinels?: unknown }
  duplicate(overrides: object): IoredisDuplicate
  on(event: string, listener: (error: Error) => void): unknown
  connect(): Promise<unknown>
  call(command: string, args: string[]): Promise<unknown>
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
  return {
    connect: () => client.connect(),
    send: ([command = '', ...args]) => client.call(command, args),
    destroy() {
      client.disconnect()
      // `disconnect` waits for the server to close its side, which a hanging server never does.
      client.stream?.destroy()
    },
  }
}
