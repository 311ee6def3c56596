// @ts-check
// sse-channel on node:http, as in its readme, with the shortest possible history if none is requested.
// Its ids must be numbers, or a replay would compare them as text.
import { createServer } from 'node:http'
import SseChannel from 'sse-channel'
import { host, settings } from '../parts/host.js'

const options = {
  jsonEncode: true,
  historySize: settings.history || 1,
  pingInterval: settings.ping || 600_000,
}
const everyone = new SseChannel(options)
/** @type {Map<string, any>} */
const channels = new Map()
/** @type {Map<string, import('node:http').ServerResponse>} */
const responses = new Map()

const server = createServer((req, res) => {
  const [, id = '', channel = ''] = /id=(\w+)(?:&channel=(\d+))?/.exec(req.url ?? '') ?? []
  channelOf(channel).addClient(req, res)
  responses.set(id, res)
  res.on('close', () => responses.delete(id))
})

/** @param {string} name */
function channelOf(name) {
  if (!settings.channels) return everyone
  const channel = channels.get(name) ?? new SseChannel(options)
  channels.set(name, channel)
  return channel
}

/** @param {import('../parts/event.js').BenchEvent} event */
function messageOf(event) {
  return { ...event, id: Number(event.id) }
}

host({
  server,
  broadcast: event => {
    everyone.send(messageOf(event))
  },
  send: (client, event) => {
    everyone.send(messageOf(event), [responses.get(client)])
  },
  sendToChannel: (name, event) => {
    channels.get(name)?.send(messageOf(event))
  },
  replays: true,
})
