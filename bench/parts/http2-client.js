// @ts-check
// As much of HTTP/2 (RFC 9113) as a load client needs: many streams on one session, without flow control,
// because the windows are opened as far as they go.
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'

const FRAME_HEADER = 9
const DATA = 0
const HEADERS = 1
const RST_STREAM = 3
const SETTINGS = 4
const PING = 6
const GOAWAY = 7
const ACK = 1
const END_STREAM = 1
const END_HEADERS = 4

const MAX_WINDOW = 2 ** 31 - 1

/** SETTINGS_INITIAL_WINDOW_SIZE. */
const INITIAL_WINDOW_SIZE = 4

/**
 * @typedef Listener of one stream
 * @property {(status: number) => void} onHeaders
 * @property {(bytes: Buffer) => void} onData
 * @property {() => void} onEnd the stream or its session is over
 */

export class Http2Client {
  #socket
  /** @type {Map<number, Listener>} */
  #streams = new Map()
  #nextId = 1
  /** What has arrived of a frame that is not whole. @type {Buffer} */
  #rest = Buffer.alloc(0)

  /** @param {{ port: number, tls: boolean }} server */
  constructor({ port, tls }) {
    const address = { port, host: '127.0.0.1' }
    this.#socket = tls
      ? connectTls({ ...address, ALPNProtocols: ['h2'], rejectUnauthorized: false })
      : connect(address)
    const fail = () => {
      for (const stream of this.#streams.values()) stream.onEnd()
    }
    this.#socket.on('error', fail)
    this.#socket.on('close', fail)
    this.#socket.on('data', bytes => this.#read(bytes))
    const window = Buffer.alloc(6)
    window.writeUInt16BE(INITIAL_WINDOW_SIZE, 0)
    window.writeUInt32BE(MAX_WINDOW, 2)
    const session = Buffer.alloc(4)
    session.writeUInt32BE(MAX_WINDOW - 65_535)
    this.#socket.write(
      Buffer.concat([
        Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
        frame(SETTINGS, 0, 0, window),
        frame(8, 0, 0, session),
      ]),
    )
  }

  get bytesRead() {
    return this.#socket.bytesRead
  }

  /** @param {Record<string, string>} headers @param {Listener} listener */
  request(headers, listener) {
    const id = this.#nextId
    this.#nextId += 2
    this.#streams.set(id, listener)
    const fields = Object.entries(headers).flatMap(([name, value]) => [
      // A literal without indexing, so that nobody has to keep a table (RFC 7541, 6.2.2).
      Buffer.from([0]),
      literal(name),
      literal(value),
    ])
    this.#socket.write(frame(HEADERS, END_STREAM | END_HEADERS, id, Buffer.concat(fields)))
  }

  /** @param {Buffer} bytes */
  #read(bytes) {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    let at = 0
    while (all.length - at >= FRAME_HEADER) {
      const end = at + FRAME_HEADER + all.readUIntBE(at, 3)
      if (end > all.length) break
      const id = all.readUInt32BE(at + 5)
      this.#receive(
        /** @type {number} */ (all[at + 3]),
        /** @type {number} */ (all[at + 4]),
        id,
        all.subarray(at + FRAME_HEADER, end),
      )
      at = end
    }
    this.#rest = all.subarray(at)
  }

  /** @param {number} type @param {number} flags @param {number} id @param {Buffer} payload */
  #receive(type, flags, id, payload) {
    const stream = this.#streams.get(id)
    if (type === DATA) stream?.onData(payload)
    // `:status: 200` is entry 8 of the static table (RFC 7541, A), and Node sends it first.
    else if (type === HEADERS) stream?.onHeaders(payload[0] === 0x88 ? 200 : 0)
    else if (type === SETTINGS && !(flags & ACK)) this.#socket.write(frame(SETTINGS, ACK, 0))
    else if (type === PING && !(flags & ACK)) this.#socket.write(frame(PING, ACK, 0, payload))
    else if (type === RST_STREAM) stream?.onEnd()
    else if (type === GOAWAY) for (const one of this.#streams.values()) one.onEnd()
    if (type === DATA && flags & END_STREAM) stream?.onEnd()
  }
}

/** @param {number} type @param {number} flags @param {number} id @param {Buffer} [payload] */
function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const header = Buffer.alloc(FRAME_HEADER)
  header.writeUIntBE(payload.length, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(id, 5)
  return Buffer.concat([header, payload])
}

/** A string without Huffman coding (RFC 7541, 5.2). @param {string} text of at most 126 characters */
function literal(text) {
  return Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
}
