/** tRPC, whose subscription reads `pool.events()` and continues after the client's last id. */
import { createTRPCClient, httpSubscriptionLink } from '@trpc/client'
import { initTRPC, tracked } from '@trpc/server'
import { createHTTPHandler } from '@trpc/server/adapters/standalone'
import { EventSource } from 'eventsource'
import type { Client } from './play.js'
import type { World } from './world.js'

type Input = { lastEventId?: string } | undefined

function routerOf({ pool, subscribed }: World) {
  const t = initTRPC.create()
  return t.router({
    events: t.procedure
      .input((input: unknown) => input as Input)
      .subscription(async function* ({ input, signal }) {
        const events = pool.events({ id: 'ada' }, { since: input?.lastEventId, signal })
        subscribed()
        for await (const { id = '', event, data } of events) yield tracked(id, { event, data })
      }),
  })
}

export function trpcClient(name: string): Client {
  return {
    name,
    // The rest is the protocol of tRPC.
    only: ['cut in a burst', 'cut at the last byte', 'cut in a large event', 'multi-line'],
    handler(world) {
      const handle = createHTTPHandler({ router: routerOf(world) })
      return ctx => {
        ctx.respond = false
        // Koa begins with a 404, and tRPC changes no status that has been set.
        ctx.res.statusCode = 200
        handle(ctx.req, ctx.res)
      }
    },
    async start(world) {
      const client = createTRPCClient<ReturnType<typeof routerOf>>({
        links: [httpSubscriptionLink({ url: world.origin, EventSource })],
      })
      const subscription = client.events.subscribe(undefined, {
        onData: ({ data }) => world.show(data.event, data.data),
        onError: world.end,
        onStopped: world.end,
      })
      return () => subscription.unsubscribe()
    },
  }
}
