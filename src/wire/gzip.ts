/**
 * Text compressed once for all readers, each of which has a gzip stream of its own (RFC 1952).
 *
 * Every part ends at a byte (a sync flush) and refers to nothing but the part before it, or to nothing at all.
 * Readers that have received the same part last therefore share the bytes of the next one, whatever they have
 * received before. What differs between them is the checksum at the end: it is combined from the checksums of the
 * parts, so that no part is read once per reader.
 */
import { constants, deflateRawSync } from 'node:zlib'
import type { Payload } from './payload.js'

/** No name, no time, unknown system (RFC 1952, 2.3). */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])

/** An empty last block (RFC 1951, 3.2.6). */
const LAST_BLOCK = Buffer.from([0x03, 0x00])

/** Shorter texts gain too little to be worth a call of zlib. */
const MIN_SIZE = 64

/** How far back a part may refer (RFC 1951, 2). */
const MAX_DISTANCE = 32 * 1024

/** The header of a block that is not compressed, and its longest text (RFC 1951, 3.2.4). */
const STORED_HEADER = 5
const MAX_STORED = 0xffff

/** A text is compressed after at most this many others. Readers that had yet another one last get it on its own. */
const MAX_MODELS = 4

/** The key of a part that refers to nothing. */
const ALONE = 0

let count = 0

/** A text in all the forms that readers get. */
export class GzipText {
  /** Its CRC-32. */
  readonly crc: number
  /** The factor by which its length shifts the CRC-32 of what comes before it. */
  readonly shift: number
  readonly #bytes: Buffer
  /** Parts refer to it by number: by itself, each text would keep the one before it in memory. */
  readonly #number: number
  readonly #parts = new Map<number, GzipPart>()

  constructor(bytes: Buffer) {
    count += 1
    this.#number = count
    this.#bytes = bytes
    this.crc = crc32(bytes)
    this.shift = shiftBy(bytes.length)
  }

  get size(): number {
    return this.#bytes.length
  }

  /** Whether the next text is compressed with reference to this one. */
  get isModel(): boolean {
    return this.size >= MIN_SIZE && this.size <= MAX_DISTANCE
  }

  /** @param previous what its readers have received last, if the text may refer to it. */
  after(previous: GzipText | undefined): Payload {
    // A short text is the same after any other.
    const key = previous === undefined || this.size < MIN_SIZE ? ALONE : previous.#number
    let part = this.#parts.get(key)
    if (part !== undefined) return part
    // In the worst case every reader had another text last, and each would cost a call of zlib.
    if (key !== ALONE && this.#parts.size >= MAX_MODELS) return this.after(undefined)
    part = new GzipPart(deflate(this.#bytes, previous === undefined ? undefined : previous.#bytes))
    this.#parts.set(key, part)
    return part
  }
}

/** One reader's gzip stream. */
export class GzipStream {
  #previous: GzipText | undefined
  #crc = 0
  #size = 0

  /** The first part. */
  begin(text: GzipText): Payload {
    return new GzipPart(Buffer.concat([HEADER, this.next(text).plain]))
  }

  next(text: GzipText): Payload {
    const part = text.after(this.#previous)
    this.#previous = text.isModel ? text : undefined
    this.#crc = multiply(text.shift, this.#crc) ^ text.crc
    this.#size = (this.#size + text.size) | 0
    return part
  }

  /** The end, without which clients take the stream for one that was cut off. */
  end(): Payload {
    const trailer = Buffer.alloc(8)
    trailer.writeInt32LE(this.#crc, 0)
    trailer.writeInt32LE(this.#size, 4)
    return new GzipPart(Buffer.concat([LAST_BLOCK, trailer]))
  }
}

class GzipPart implements Payload {
  readonly plain: Buffer
  #framed: Buffer | undefined

  constructor(bytes: Buffer) {
    this.plain = bytes
  }

  get size(): number {
    return this.plain.length
  }

  get framed(): Buffer {
    this.#framed ??= Buffer.concat([
      Buffer.from(`${this.size.toString(16)}\r\n`),
      this.plain,
      Buffer.from('\r\n'),
    ])
    return this.#framed
  }
}

function deflate(bytes: Buffer, dictionary: Buffer | undefined): Buffer {
  if (bytes.length < MIN_SIZE) return stored(bytes)
  const deflated = deflateRawSync(bytes, {
    finishFlush: constants.Z_SYNC_FLUSH,
    ...(dictionary !== undefined && { dictionary }),
  })
  const isSmaller = deflated.length < bytes.length + STORED_HEADER
  return isSmaller || bytes.length > MAX_STORED ? deflated : stored(bytes)
}

function stored(bytes: Buffer): Buffer {
  const block = Buffer.alloc(STORED_HEADER + bytes.length)
  block.writeUInt16LE(bytes.length, 1)
  block.writeUInt16LE(~bytes.length & 0xffff, 3)
  bytes.copy(block, STORED_HEADER)
  return block
}

/** The generator of CRC-32, with its bits reversed as everywhere below: the highest bit is the constant. */
const GENERATOR = 0xedb88320

const ONE = 1 << 31

/** For each byte, its CRC-32 without the inversions. */
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit += 1) crc = timesX(crc)
  return crc
})

/** x to the power of 8, 16, 32 and so on. */
const POWERS: number[] = []
for (let power = ONE >>> 8; POWERS.length < 32; power = multiply(power, power)) POWERS.push(power)

function crc32(bytes: Buffer): number {
  let crc = -1
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number)
  return ~crc
}

/** `multiply(shiftBy(b.length), crc32(a)) ^ crc32(b)` is the CRC-32 of `a` and `b` together. */
function shiftBy(bytes: number): number {
  let shift = ONE
  for (let rest = bytes, index = 0; rest > 0; rest >>>= 1, index += 1) {
    if (rest & 1) shift = multiply(POWERS[index] as number, shift)
  }
  return shift
}

/** The product of two polynomials, modulo the generator. */
function multiply(a: number, b: number): number {
  let product = 0
  let shifted = b
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= shifted
    shifted = timesX(shifted)
  }
  return product
}

function timesX(polynomial: number): number {
  return (polynomial >>> 1) ^ (GENERATOR & -(polynomial & 1))
}
