/** What a transport writes. */

/** Bytes on their way to sockets, which all sockets share. */
export interface Payload {
  /** The number of bytes without framing. */
  readonly size: number
  /** The bytes without framing. */
  readonly plain: Buffer
  /** The bytes as one HTTP/1.1 chunk (RFC 9112, 7.1). */
  readonly framed: Buffer
}
