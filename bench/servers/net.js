// @ts-check
// Bare Node `net`: the lower bound for any server on Node. One Buffer, framed once, for every socket.
import { createServer } from 'node:net'
import { frameOf } from '../parts/event.js'
import { Groups } from '../parts/groups.js'
import { host, settings } from '../parts/host.js'

const HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n' +
  'Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n:ok\n\r\n'

/** @type {Map<string, import('node:net').Socket>} */
const sockets = new Map()
/** @type {Groups<import('node:net').Socket>} */
const channels = new Groups()

const server = createServer({ noDelay: true }, socket => {
  socket.once('data', request => {
    const [, id = '', channel = ''] =
      /id=(\w+)(?:&channel=(\d+))?/.exec(request.toString('latin1', 0, 64)) ?? []
    sockets.set(id, socket)
    if (settings.channels) channels.add(channel, socket)
    socket.on('close', () => {
      sockets.delete(id)
      channels.delete(channel, socket)
    })
    socket.write(HEAD)
  })
  socket.on('error', () => {})
})

/** @param {import('../parts/event.js').BenchEvent} event */
function chunkOf(event) {
  const frame = frameOf(event)
  return Buffer.from(`${Buffer.byteLength(frame).toString(16)}\r\n${frame}\r\n`)
}

const HEARTBEAT = Buffer.from('3\r\n:\n\n\r\n')
if (settings.ping > 0) {
  setInterval(() => {
    for (const socket of sockets.values()) socket.write(HEARTBEAT)
  }, settings.ping)
}

host({
  server,
  broadcast(event) {
    const chunk = chunkOf(event)
    for (const socket of sockets.values()) socket.write(chunk)
  },
  send: (id, event) => sockets.get(id)?.write(chunkOf(event)),
  sendToChannel(name, event) {
    const chunk = chunkOf(event)
    for (const socket of channels.of(name)) socket.write(chunk)
  },
})
