// One event from the server to a raw client, then everything closes. No process.exit(): a timer or
// socket that the package leaves behind keeps the process alive, and the test fails.
const assert = require('node:assert/strict')
const { once } = require('node:events')
const http = require('node:http')
const { createParser } = require('eventsource-parser')

exports.newApi = async ({ sse, ClientPool }, Koa) => {
  const pool = new ClientPool()
  const server = await listen(new Koa().use(sse({ pool, id: ctx => ctx.query.id })))
  const events = readEvents(await connect(server))

  const [id] = await Promise.all([
    pool.send('a', { event: 'update', data: { count: 1 } }),
    events.next().then(({ value }) => {
      assert.equal(value.event, 'update')
      assert.deepEqual(JSON.parse(value.data), { count: 1 })
    }),
  ])
  assert.equal(typeof id, 'string')

  await pool.close()
  server.close()
  assert.deepEqual(await events.next(), { done: true, value: undefined })
}

exports.compat = async (koasse, Koa) => {
  const app = new Koa().use(koasse({ maxClients: 2 })).use(ctx => {
    ctx.sse.send({ event: 'update', data: 'one' })
    ctx.sse.sendEnd()
  })
  const server = await listen(app)
  const events = []
  for await (const event of readEvents(await connect(server))) events.push(event)
  server.close()

  assert.deepEqual(
    events.map(({ event, data }) => [event, data]),
    [
      ['update', 'one'],
      ['close', ''],
    ],
  )
}

async function listen(app) {
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

async function connect(server) {
  const { address: host, port } = server.address()
  const headers = { accept: 'text/event-stream' }
  const [response] = await once(http.get({ host, port, path: '/?id=a', headers }), 'response')
  assert.equal(response.statusCode, 200)
  return response.setEncoding('utf8')
}

/** The app's events: those that begin with `sse.` are the package's own. */
async function* readEvents(response) {
  const events = []
  const onEvent = event => event.event?.startsWith('sse.') || events.push(event)
  const parser = createParser({ onEvent })
  for await (const chunk of response) {
    parser.feed(chunk)
    yield* events.splice(0)
  }
}
