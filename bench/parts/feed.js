// @ts-check
// Feeds entries from outside: the client's process keeps some unacknowledged, each sent by itself; the
// server publishes each as it arrives and acknowledges it. So the input does not depend on how the server
// schedules its work, and accumulates in the socket while the server is busy.
import { connect, createServer } from 'node:net'
import { DIGITS, eventAt } from './event.js'

const ZERO = 0x30
const ACCEPTED = 'HTTP/1.1 20'

/** The server's end: eight digits are an entry, one byte acknowledges it. @param {(seq: number) => unknown} publish */
export function listenForFeed(publish) {
  return createServer({ noDelay: true }, socket => {
    let seq = 0
    let digits = 0
    socket.on('error', () => {})
    socket.on('data', bytes => {
      for (const byte of bytes) {
        seq = seq * 10 + byte - ZERO
        digits += 1
        if (digits < DIGITS) continue
        publish(seq)
        socket.write('+')
        seq = 0
        digits = 0
      }
    })
  })
}

/**
 * The client's end. With a path it sends pipelined HTTP requests on one connection instead.
 *
 * @param {{ feed: { port: number, path?: string }, from: number, count: number, outstanding: number }} work
 */
export function feedTo({ feed: { port, path }, from, count, outstanding }) {
  return new Promise((resolve, reject) => {
    const acknowledgements = path === undefined ? bytesIn : repliesIn()
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    let sent = 0
    let acknowledged = 0
    const sendMore = () => {
      for (; sent < count && sent - acknowledged < outstanding; sent += 1) {
        socket.write(path === undefined ? recordOf(from + sent) : postOf(path, from + sent))
      }
    }
    socket.on('connect', sendMore)
    socket.on('error', reject)
    socket.on('data', bytes => {
      acknowledged += acknowledgements(bytes)
      if (acknowledged < count) sendMore()
      else resolve(socket.destroy())
    })
  }).then(() => undefined)
}

/** @param {number} seq */
function recordOf(seq) {
  return String(seq).padStart(DIGITS, '0')
}

/** @param {string} path @param {number} seq */
function postOf(path, seq) {
  const { event, data } = eventAt(seq)
  const body = JSON.stringify(data)
  return (
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-EventSource-Event: ${event}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  )
}

/** @param {Buffer} bytes */
const bytesIn = bytes => bytes.length

/** Replies may be split anywhere, so a possible beginning of one is kept. */
function repliesIn() {
  let rest = ''
  return (/** @type {Buffer} */ bytes) => {
    const parts = (rest + bytes.toString('latin1')).split(ACCEPTED)
    rest = parts.at(-1)?.slice(1 - ACCEPTED.length) ?? ''
    return parts.length - 1
  }
}
