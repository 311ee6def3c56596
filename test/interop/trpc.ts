/** tRPC, whose subscription reads `pool.events()` and continues after the client's last id. */
import { createTRPCClient, httpSubscriptionLink } from '@trpc/client'
import { initTRPC, TRPCError, tracked } from '@trpc/server'
import { createHTTPHandler } from '@trpc/server/adapters/standalone'
import { EventSource } from 'eventsource'
import type { Client } from './play.js'
import type { Source, World } from './world.js'

type Input = { lastEventId?: string } | undefined

/** @param end ends the iterations. */
function routerOf(world: World, subscribed: () => void, end: AbortSignal) {
  const t = initTRPC.create({ sse: { ping: { enabled: true, intervalMs: 100 } } })
  return t.router({
    events: t.procedure
      .input((input: unknown) => input as Input)
      .subscription(async function* ({ input, signal }) {
        if (world.refuses) throw new TRPCError({ code: 'UNAUTHORIZED' })
        const options = { since: input?.lastEventId, signal: AbortSignal.any([end, signal ?? end]) }
        const events = world.pool.events({ id: 'ada' }, options)
        subscribed()
        for await (const { id = '', event, data } of events) yield tracked(id, { event, data })
      }),
  })
}

function trpcSource(world: World): Source {
  const end = new AbortController()
  let isSubscribed = false
  const subscribed = () => {
    isSubscribed = true
    world.check()
  }
  const handle = createHTTPHandler({ router: routerOf(world, subscribed, end.signal) })
  return {
    isConnected: () => isSubscribed,
    middleware(ctx) {
      ctx.respond = false
      // Koa begins with a 404, and tRPC changes no status that has been set.
      ctx.res.statusCode = 200
      handle(ctx.req, ctx.res)
    },
    end: () => end.abort(),
  }
}

export function trpcClient(name: string): Client {
  return {
    name,
    world: { source: trpcSource },
    async start(world) {
      const client = createTRPCClient<ReturnType<typeof routerOf>>({
        links: [httpSubscriptionLink({ url: world.origin, EventSource })],
      })
      const subscription = client.events.subscribe(undefined, {
        onData: ({ data }) => world.show(data.event, data.data),
        onError: world.end,
        onComplete: world.end,
        onStopped: world.end,
      })
      return () => subscription.unsubscribe()
    },
  }
}
