// Lean streams on this version of Node. They rely on internals, so every version is tested.
// No process.exit(): anything that they leave behind keeps the process alive, and the test fails.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import Koa3 from 'koa'
import { ClientPool, sse } from 'koa-sse-pool'
import Koa2 from 'koa2'

process.on('warning', warning => {
  throw warning
})

for (const Koa of [Koa3, Koa2]) {
  await leanOnes(Koa)
  await ordinaryOnes(Koa)
}

async function leanOnes(Koa) {
  const { pool, port, refs, close } = await serve(Koa)
  const clients = await Promise.all(Array.from({ length: 50 }, (_, id) => connect(port, id)))
  await until(
    () => pool.stats().lean === 50,
    () => `${pool.stats().lean} of 50 are lean`,
  )
  const isLetGo = ref => ref.deref() === undefined
  await until(
    () => {
      gc()
      return refs.every(isLetGo)
    },
    () => 'ctx, request and response are kept',
  )

  await pool.broadcast('to all')
  await Promise.all(clients.map(({ until }) => until('data: to all\n')))

  const [asking, leaving, ending, ...others] = clients
  await new Promise(resolve => asking.socket.write(request(1000), resolve))
  const left = new Promise(resolve => pool.once('close', (...args) => resolve(args)))
  leaving.socket.end()
  const [{ id }, reason] = await left
  assert.deepEqual([id, reason], ['1', 'client'])
  void pool.remove(2)
  await ending.closed
  assert.match(ending.text(), /event: close\ndata: \nid: sse\.end\n\n\r\n0\r\n\r\n$/)

  await pool.broadcast('to the rest')
  await Promise.all([asking, ...others].map(({ until }) => until('data: to the rest\n')))
  assert.equal(asking.text().match(/HTTP\/1\.1/g).length, 1)
  assert.equal(pool.has(1000), false)
  const { streams, lean, closed } = pool.stats()
  assert.deepEqual({ streams, lean }, { streams: 48, lean: 48 })
  assert.deepEqual([closed.client, closed.removed], [1, 1])

  await Promise.all([close(), ...others.map(({ closed }) => closed)])
  for (const { text } of others) assert.match(text(), /retry: \d+\n\r\n0\r\n\r\n$/)
}

/** Streams on sockets whose listeners are not the ones that Node sets. */
async function ordinaryOnes(Koa) {
  const { pool, port, close } = await serve(Koa, ctx => {
    ctx.req.socket.on('end', function socketOnEnd() {}.bind(null))
  })
  const { until: comes, socket, text } = await connect(port, 'ada')
  for (let i = 0; i < 10; i++) await turn()
  assert.deepEqual([pool.connections, pool.stats().lean], [1, 0])
  await pool.send('ada', 'ordinary')
  await comes('data: ordinary\n')
  await pool.remove('ada')
  await comes('\r\n0\r\n\r\n')
  assert.match(text(), /id: sse\.end/)
  socket.end()
  await close()
}

async function serve(Koa, handler = () => {}) {
  const pool = new ClientPool({ lean: true })
  const refs = []
  const app = new Koa()
  app.use(sse({ pool, id: ctx => ctx.query.id }))
  app.use(ctx => {
    for (const each of [ctx, ctx.req, ctx.res]) refs.push(new WeakRef(each))
    handler(ctx)
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async () => {
    await pool.close()
    await new Promise(resolve => server.close(resolve))
  }
  return { pool, port: server.address().port, refs, close }
}

function request(id) {
  return `GET /?id=${id} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`
}

/** A bare connection, for what no HTTP client would do. */
async function connect(port, id) {
  const socket = net.connect(port, '127.0.0.1').setEncoding('utf8')
  const closed = once(socket, 'close')
  let text = ''
  socket.on('data', data => {
    text += data
  })
  socket.write(request(id))
  const until = async wanted => {
    while (!text.includes(wanted)) await once(socket, 'data')
  }
  await until(':ok')
  return { socket, closed, until, text: () => text }
}

async function until(condition, message) {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return
    await turn()
  }
  assert.fail(message())
}
