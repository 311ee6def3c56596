import main = require('koa-sse-pool')
import koasse = require('koa-sse-pool/compat')

main.sse({ pool: new main.ClientPool() })
koasse({ maxClients: 2 })
koasse.default({ maxClients: 2 })
koasse.sse({ maxClients: 2 })
const options: koasse.CompatOptions = { maxClients: 2 }
koasse(options)

// @ts-expect-error: the options are known, so the types are not `any`
main.sse({ nonsense: true })
// @ts-expect-error
koasse({ nonsense: true })
