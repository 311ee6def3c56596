// @ts-check
// @fastify/sse has no broadcast, so this keeps a Map of `reply.sse`; `keepAlive` holds the route open.
import fastifySse from '@fastify/sse'
import Fastify from 'fastify'
import { Groups } from '../parts/groups.js'
import { host, settings } from '../parts/host.js'

/** @type {Map<string, any>} */
const streams = new Map()
/** @type {Groups<any>} */
const channels = new Groups()

const fastify = Fastify()
// JSON is encoded once for all streams instead of once per stream.
await fastify.register(/** @type {any} */ (fastifySse), {
  heartbeatInterval: settings.ping,
  serializer: String,
})
fastify.get('/', /** @type {any} */ ({ sse: true }), async (request, /** @type {any} */ reply) => {
  const { id, channel } = /** @type {{ id: string, channel: string }} */ (request.query)
  reply.sse.keepAlive()
  reply.sse.sendHeaders()
  reply.raw.flushHeaders()
  streams.set(id, reply.sse)
  if (settings.channels) channels.add(channel, reply.sse)
  reply.sse.onClose(() => {
    streams.delete(id)
    channels.delete(channel, reply.sse)
  })
})
await fastify.ready()

host({
  server: fastify.server,
  // Not awaited, because a stalled client must not delay the others.
  broadcast({ id, event, data }) {
    const message = { id, event, data: JSON.stringify(data) }
    for (const stream of streams.values()) void stream.send(message)
  },
  send: (client, { id, event, data }) => {
    void streams.get(client)?.send({ id, event, data: JSON.stringify(data) })
  },
  sendToChannel(name, { id, event, data }) {
    const message = { id, event, data: JSON.stringify(data) }
    for (const stream of channels.of(name)) void stream.send(message)
  },
})
