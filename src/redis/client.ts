/**
 * The two drivers, node-redis and ioredis, made one: a connection of our own, with the address and
 * the credentials of the user's client and none of its queues. It lives once; whoever wants another
 * dials again. What a driver resends or keeps for later would be stored twice, or after its sender
 * was told that it was lost.
 */
import { got } from '../lib/errors.js'

/** What is needed of a client of the package `redis` (node-redis). */
export interface NodeRedisClient {
  readonly isOpen: boolean
  duplicate(...args: never[]): unknown
  sendCommand(...args: never[]): unknown
}

/** What is needed of a client of the package `ioredis`. */
export interface IoredisClient {
  readonly status: string
  duplicate(...args: never[]): unknown
  call(...args: never[]): unknown
}

export type RedisClient = NodeRedisClient | IoredisClient

/** Makes a new connection; its errors and its end come by `onLost`, once or more often. */
export type CreateConnection = (timeout: number, onLost: (error: Error) => void) => DriverConnection

export interface DriverConnection {
  connect(): Promise<unknown>
  send(args: string[]): Promise<unknown>
  destroy(): void
}

/** @throws TypeError for what is no client of either package, or one of many nodes. */
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
    // ioredis puts its prefix before the key itself.
    return {
      createConnection: (...args) => ioredis(given as IoredisDuplicate, ...args),
      keyPrefix: '',
    }
  }
  if (typeof given.duplicate === 'function' && typeof given.sendCommand === 'function') {
    const template = given as NodeRedisDuplicate
    // In node-redis a raw command is sent as it is.
    const keyPrefix = String(template.options?.keyPrefix ?? '')
    return { createConnection: (...args) => nodeRedis(template, ...args), keyPrefix }
  }
  throw new TypeError(
    `redisLog(): option "client" must be a client made by createClient() of the package "redis" or ` +
      `by new Redis() of "ioredis"; got ${got(client)}`,
  )
}

interface NodeRedisDuplicate {
  readonly options?: { readonly socket?: object; readonly keyPrefix?: unknown }
  duplicate(overrides: object): NodeRedisDuplicate
  on(event: string, listener: (error: Error) => void): unknown
  connect(): Promise<unknown>
  sendCommand(args: string[]): Promise<unknown>
  /** Since version 5. */
  destroy?(): void
  /** Before. */
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
    // By default each command gets an AbortSignal with a timer, at five times the cost.
    commandOptions: { timeout: undefined },
    pingInterval: 0,
    // One shape of replies; what follows is for RESP3 only.
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
      // Version 5 throws when it is closed already.
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
      // Destroyed before it is connected it would connect all the same, and stay so.
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
    // It asks for more than we may be allowed, and hides that Redis is loading; Sentinel needs it.
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
      // That only says goodbye, and a server that hangs never answers it.
      client.stream?.destroy()
    },
  }
}
