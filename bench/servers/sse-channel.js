// @ts-check
// sse-channel on node:http, as its readme does it, with the least history that it can keep.
import { createServer } from 'node:http'
import SseChannel from 'sse-channel'
import { host } from '../parts/host.js'

const channel = new SseChannel({ jsonEncode: true, historySize: 1, pingInterval: 600_000 })

host({
  server: createServer((req, res) => channel.addClient(req, res)),
  broadcast: event => {
    channel.send(event)
  },
})
