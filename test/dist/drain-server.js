// @ts-check
// One of two processes between which clients move. Reports its port and its figures to its parent, and ends
// in the way that the README shows.
import http from 'node:http'
import http2 from 'node:http2'
import Koa from 'koa'
import { ClientPool, closeGracefully, sse } from '../../dist/index.js'

const [protocol, spread] = process.argv.slice(2)
const pool = new ClientPool()
const app = new Koa().use(sse({ pool, id: ctx => ctx.path.slice(1) })).use(() => {})
const server =
  protocol === 'http2' ? http2.createServer(app.callback()) : http.createServer(app.callback())
server.listen(0, '127.0.0.1', () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  process.send?.({ port })
})
process.on('message', () => process.send?.({ streams: pool.connections }))
process.once('SIGTERM', async () => {
  await closeGracefully(server, pool, { spread: Number(spread) })
  // Only the channel to the parent still keeps the process.
  process.disconnect()
})
