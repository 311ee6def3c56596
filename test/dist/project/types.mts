import { ClientPool, sse } from 'koa-sse-pool'
import koasse, { sse as named } from 'koa-sse-pool/compat'

sse({ pool: new ClientPool() })
koasse({ maxClients: 2 })
named({ maxClients: 2 })

// @ts-expect-error: the options are known, so the types are not `any`
sse({ nonsense: true })
// @ts-expect-error
koasse({ nonsense: true })
