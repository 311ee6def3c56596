// @ts-check
// The load client: raw sockets that read into one shared buffer, and look at no more than the
// number in each frame. It checks every frame of every stream: none lost, none twice, in order.
import { connect } from 'node:net'
import { DIGITS, MARK, targetOf } from './event.js'

const MARK_CODE = MARK.charCodeAt(0)
const ZERO = 0x30

const buffer = Buffer.allocUnsafe(256 * 1024)

/** @typedef {{ index: number, socket: import('node:net').Socket, last: number, value: number, missing: number }} Stream */

/** @type {Stream[]} */
const streams = []
/** Frames so far, and what somebody waits for. */
let frames = 0
let goal = Number.POSITIVE_INFINITY
let reached = () => {}
/** @type {string | undefined} */
let wrong
/** Targeted: each stream gets those meant for it. Otherwise each gets all. */
let clients = 0

/** @param {Stream} stream @param {number} length */
function read(stream, length) {
  let at = 0
  for (;;) {
    while (stream.missing > 0) {
      if (at === length) return
      stream.value = stream.value * 10 + /** @type {number} */ (buffer[at]) - ZERO
      at += 1
      stream.missing -= 1
      if (stream.missing === 0) arrive(stream)
    }
    while (at < length && buffer[at] !== MARK_CODE) at += 1
    if (at === length) return
    at += 1
    stream.missing = DIGITS
    stream.value = 0
  }
}

/** @param {Stream} stream */
function arrive(stream) {
  const { value, last, index } = stream
  const isRight =
    clients === 0 ? value === last + 1 : value > last && targetOf(value, clients) === index
  if (!isRight) wrong ??= `stream ${index} got ${value} after ${last}`
  stream.last = value
  frames += 1
  if (frames >= goal) reached()
}

/** @param {number} port @param {number} index */
function open(port, index) {
  return new Promise((resolve, reject) => {
    /** @type {Stream} */
    const stream = { index, socket: /** @type {any} */ (undefined), last: 0, value: 0, missing: 0 }
    let answered = false
    const onRead = (/** @type {number} */ length) => {
      if (!answered) {
        answered = true
        const status = buffer.toString('latin1', 0, 12)
        if (status === 'HTTP/1.1 200') resolve(stream)
        else reject(new Error(`stream ${index} was answered ${status}`))
      }
      read(stream, length)
      return true
    }
    stream.socket = connect({
      port,
      host: '127.0.0.1',
      onread: { buffer, callback: onRead },
    })
    stream.socket.on('error', reject)
    stream.socket.on('close', () => {
      wrong ??= `stream ${index} was closed`
    })
    stream.socket.write(
      `GET /?id=${index} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`,
    )
    streams.push(stream)
  })
}

/** @type {Record<string, (args: any) => unknown>} */
const commands = {
  /** Until there are so many streams. */
  async connect({ port, count }) {
    while (streams.length < count) {
      const some = Math.min(count - streams.length, 200)
      const from = streams.length
      await Promise.all(Array.from({ length: some }, (_, i) => open(port, from + i)))
    }
  },
  /** The next frame has this number. */
  begin({ from, targeted }) {
    clients = targeted ? streams.length : 0
    frames = 0
    for (const stream of streams) stream.last = from - 1
  },
  /** Resolves when so many frames have arrived since `begin`. */
  async until({ count }) {
    if (frames < count) {
      goal = count
      await new Promise(resolve => {
        reached = () => resolve(undefined)
      })
      goal = Number.POSITIVE_INFINITY
    }
    if (frames > count) wrong ??= `${frames} frames arrived, not ${count}`
    if (wrong !== undefined) throw new Error(wrong)
  },
  /** One more client, which asks and then never reads. */
  async stall({ port }) {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.on('error', () => {})
    await new Promise(resolve => socket.once('connect', resolve))
    socket.write(
      'GET /?id=stalled HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n',
    )
    await new Promise(resolve => socket.once('data', resolve))
    socket.pause()
  },
}

process.on('message', async (/** @type {any} */ { id, command, args }) => {
  try {
    process.send?.({ id, result: await commands[command]?.(args) })
  } catch (error) {
    process.send?.({ id, error: /** @type {Error} */ (error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: 0 })
