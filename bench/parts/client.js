// @ts-check
// The load client: raw sockets that read into one shared buffer and parse only the number in each frame.
// It checks every frame of every stream: none lost, none duplicated, in order.
import { get } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGunzip } from 'node:zlib'
import { DIGITS, groupOf, MARK, monotonic } from './event.js'
import { feedTo } from './feed.js'
import { Http2Client } from './http2-client.js'

const MARK_CODE = MARK.charCodeAt(0)
const ZERO = 0x30

const buffer = Buffer.allocUnsafe(256 * 1024)

/**
 * @typedef Stream
 * @property {number} index
 * @property {{ readonly bytesRead: number }} socket
 * @property {number} next the number that the next frame must have
 * @property {number} value of the digits read so far
 * @property {number} missing digits still to be read
 * @property {number} beats
 */

/** @type {Stream[]} */
const streams = []
/** @type {string | undefined} */
let wrong
/** Expected numbers: every one, or with groups those of the stream's own group. */
let expected = { from: 1, groups: 1 }
/** Frames since `begin`, and the number that `until` waits for. */
let frames = 0
let goal = Number.POSITIVE_INFINITY
let reached = () => {}
/** The arrival time of each frame, if requested. @type {{ value: number, at: number }[] | undefined} */
let arrivals
/** Heartbeats since `begin`, if counted, and the size of each in bytes. */
let beats = 0
let beatSize = -1
let countsBeats = false

/** @param {Stream} stream @param {Buffer} bytes @param {number} length */
function read(stream, bytes, length) {
  let at = 0
  for (;;) {
    while (stream.missing > 0) {
      if (at === length) return
      stream.value = stream.value * 10 + /** @type {number} */ (bytes[at]) - ZERO
      at += 1
      stream.missing -= 1
      if (stream.missing === 0) arrive(stream)
    }
    while (at < length && bytes[at] !== MARK_CODE) at += 1
    if (at === length) return
    at += 1
    stream.missing = DIGITS
    stream.value = 0
  }
}

/** @param {Stream} stream */
function arrive(stream) {
  const { value, next, index } = stream
  if (value !== next) fail(`stream ${index} got entry ${value} instead of ${next}`)
  stream.next = value + expected.groups
  frames += 1
  arrivals?.push({ value, at: monotonic() })
  if (frames >= goal) reached()
}

/** A read without an entry counts as a heartbeat. Its size shows whether it was one or two. @param {Stream} stream @param {number} length */
function beat(stream, length) {
  if (beatSize === -1) beatSize = length
  if (length !== beatSize) {
    fail(`stream ${stream.index} got a heartbeat of ${length} bytes, not ${beatSize}`)
  }
  beats += 1
  stream.beats += 1
}

/** Records the failure and ends a pending `until`. @param {string} reason */
function fail(reason) {
  wrong ??= reason
  reached()
}

/** @param {number} index */
function firstFor(index) {
  const { from, groups } = expected
  return from + groupOf(groups + groupOf(index, groups) - groupOf(from, groups), groups)
}

/**
 * @typedef Target
 * @property {number} port
 * @property {number} channels
 * @property {string} [lastEventId]
 * @property {string} [path]
 * @property {number} [runs]
 * @property {boolean} [gzip] accepts compressed streams
 * @property {{ perSession: number, tls: boolean }} [http2]
 *
 * @param {Target & { index: number }} request
 */
function open({ port, index, channels, lastEventId, path = '/?id={id}', runs, gzip, http2 }) {
  if (gzip) return openGzip(port, index)
  if (http2) return openHttp2({ port, ...http2 }, index)
  return new Promise((resolve, reject) => {
    const stream = streamAt(index)
    let answered = false
    const onRead = (/** @type {number} */ length) => {
      const before = frames
      read(stream, buffer, length)
      if (!answered) {
        answered = true
        const status = buffer.toString('latin1', 0, 12)
        if (status === 'HTTP/1.1 200') resolve(stream)
        else reject(new Error(`stream ${index} was answered ${status}`))
      } else if (countsBeats && frames === before) beat(stream, length)
      return true
    }
    const socket = connect({ port, host: '127.0.0.1', onread: { buffer, callback: onRead } })
    stream.socket = socket
    socket.on('error', reject)
    socket.on('close', () => fail(`stream ${index} was closed`))
    const channel = channels > 0 ? `&channel=${groupOf(index, channels)}` : ''
    const id = runs === undefined ? index : groupOf(index, runs)
    socket.write(requestOf(path.replace('{id}', String(id)) + channel, lastEventId))
    streams.push(stream)
  })
}

/** @param {number} index @returns {Stream} */
function streamAt(index) {
  return {
    index,
    socket: /** @type {any} */ (undefined),
    next: firstFor(index),
    value: 0,
    missing: 0,
    beats: 0,
  }
}

/** A server that does not compress is read as it is. @param {number} port @param {number} index */
function openGzip(port, index) {
  return new Promise((resolve, reject) => {
    const stream = streamAt(index)
    const headers = { Accept: 'text/event-stream', 'Accept-Encoding': 'gzip' }
    const request = get({ port, host: '127.0.0.1', path: `/?id=${index}`, headers, agent: false })
    request.on('error', reject)
    request.on('response', response => {
      if (response.statusCode !== 200) {
        reject(new Error(`stream ${index} was answered ${response.statusCode}`))
        return
      }
      const isCompressed = response.headers['content-encoding'] === 'gzip'
      const body = isCompressed ? response.pipe(createGunzip()) : response
      body.on('data', bytes => read(stream, bytes, bytes.length))
      body.on('error', error => fail(`stream ${index}: ${error.message}`))
      response.on('close', () => fail(`stream ${index} was closed`))
      stream.socket = response.socket
      streams.push(stream)
      resolve(stream)
    })
  })
}

/** @type {Http2Client | undefined} */
let session

/**
 * @param {{ port: number, perSession: number, tls: boolean }} server
 * @param {number} index
 */
function openHttp2({ port, perSession, tls }, index) {
  if (index % perSession === 0 || session === undefined) session = new Http2Client({ port, tls })
  const client = session
  return new Promise((resolve, reject) => {
    const stream = streamAt(index)
    stream.socket = client
    const headers = {
      ...{ ':method': 'GET', ':scheme': tls ? 'https' : 'http', ':path': `/?id=${index}` },
      ...{ ':authority': '127.0.0.1', accept: 'text/event-stream' },
    }
    client.request(headers, {
      onHeaders(status) {
        if (status === 200) resolve(stream)
        else reject(new Error(`stream ${index} was refused`))
      },
      onData: bytes => read(stream, bytes, bytes.length),
      onEnd() {
        reject(new Error(`stream ${index} was closed`))
        fail(`stream ${index} was closed`)
      },
    })
    streams.push(stream)
  })
}

/** @param {string} path @param {string} [lastEventId] */
function requestOf(path, lastEventId) {
  const cursor = lastEventId === undefined ? '' : `Last-Event-ID: ${lastEventId}\r\n`
  return (
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n` + `${cursor}\r\n`
  )
}

/** @type {Record<string, (args: any) => unknown>} */
const commands = {
  /** Connects until there are `count` streams, to that many runs in turn if `runs` is given. */
  async connect({ count, channels = 0, ...target }) {
    while (streams.length < count) {
      const some = Math.min(count - streams.length, 200)
      const from = streams.length
      await Promise.all(
        Array.from({ length: some }, (_, i) => open({ ...target, index: from + i, channels })),
      )
    }
  },
  /** The next entry has the number `from`. With groups, each stream gets only its own group's entries. */
  begin({ from, groups = 1, timed = false, withBeats = false }) {
    expected = { from, groups }
    frames = 0
    beats = 0
    beatSize = -1
    countsBeats = withBeats
    arrivals = timed ? [] : undefined
    for (const stream of streams) {
      stream.next = firstFor(stream.index)
      stream.beats = 0
    }
  },
  /** Resolves when `count` frames have arrived since `begin`. */
  async until({ count }) {
    if (frames < count && wrong === undefined) {
      goal = count
      await new Promise(resolve => {
        reached = () => resolve(undefined)
      })
      goal = Number.POSITIVE_INFINITY
    }
    if (frames > count) wrong ??= `${frames} frames arrived instead of ${count}`
    if (wrong !== undefined) throw new Error(wrong)
  },
  /** Delays from publish to arrival; `times` are the times at which the entries since `begin` were published. */
  delays({ times }) {
    const delays = (arrivals ?? []).map(({ value, at }) => at - times[value - expected.from])
    delays.sort((a, b) => a - b)
    const part = (/** @type {number} */ share) => delays[Math.floor(share * (delays.length - 1))]
    return { p50: part(0.5), p99: part(0.99) }
  },
  /** Bytes that have arrived on all sockets. */
  bytesRead() {
    return [...new Set(streams.map(({ socket }) => socket))].reduce(
      (sum, { bytesRead }) => sum + bytesRead,
      0,
    )
  },
  /** Heartbeats since `begin`: the total, and the fewest and the most of any stream. */
  beats() {
    if (wrong !== undefined) throw new Error(wrong)
    const each = streams.map(stream => stream.beats)
    return { all: beats, least: Math.min(...each), most: Math.max(...each) }
  },
  /** Resolves when no heartbeat has arrived for a while, so that none is in flight, or after `most` ms. */
  async lull({ most }) {
    const until = monotonic() + most
    for (let before = -1; before !== beats && monotonic() < until; ) {
      before = beats
      await sleep(100)
    }
  },
  /** Connects one more client, which records the id of the next entry. */
  async learnId({ port }) {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.write(requestOf('/?id=learner'))
    let text = ''
    learnt = new Promise(resolve => {
      socket.on('data', bytes => {
        text += bytes
        const mark = text.indexOf(MARK)
        const end = text.indexOf('\n\n', mark)
        if (mark === -1 || end === -1) return
        // The id is the first line of a frame with some servers, and the last with others.
        const frame = text.slice(text.lastIndexOf('\n\n', mark) + 1, end)
        resolve(/.*\nid: ([^\r\n]+)/s.exec(`\n${frame}`)?.[1])
        socket.destroy()
      })
    })
    await new Promise(resolve => socket.once('data', resolve))
  },
  learntId: () => learnt,
  feed: feedTo,
  /** Connects one more client, which sends its request and then never reads. */
  async stall({ port }) {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.on('error', () => {})
    await new Promise(resolve => socket.once('connect', resolve))
    socket.write(requestOf('/?id=stalled'))
    await new Promise(resolve => socket.once('data', resolve))
    socket.pause()
  },
}

/** @type {Promise<string | undefined>} */
let learnt = Promise.resolve(undefined)

process.on('message', async (/** @type {any} */ { id, command, args }) => {
  try {
    process.send?.({ id, result: await commands[command]?.(args ?? {}) })
  } catch (error) {
    process.send?.({ id, error: /** @type {Error} */ (error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.({ ready: {} })
