import { ClientPool, sse } from 'koa-sse-pool'
import koasse, { sse as named } from 'koa-sse-pool/compat'
import { type NodeRedisClient, redisLog } from 'koa-sse-pool/redis'
import { eventLogSuite } from 'koa-sse-pool/testing'
import { streamTickets } from 'koa-sse-pool/tickets'

declare const client: NodeRedisClient
const open = () => redisLog({ client, key: 'log' })

sse({ pool: new ClientPool() })
// Neither driver is installed here.
sse({ log: redisLog({ client, key: 'log' }) })
eventLogSuite({ test: (_name, run) => run(), create: () => ({ open, close() {} }) })
const pool = new ClientPool<{ update: number }>()
sse({ pool, ...streamTickets({ pool, secret: '' }).redeem() })
koasse({ maxClients: 2 })
named({ maxClients: 2 })

// @ts-expect-error: the options are known, so the types are not `any`
sse({ nonsense: true })
// @ts-expect-error
koasse({ nonsense: true })
// @ts-expect-error
redisLog({ client: 'redis://localhost', key: 'log' })
// @ts-expect-error
streamTickets({ pool, secret: 42 })
