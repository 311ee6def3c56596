/** Reads the bytes of an HTTP/1.1 answer as strictly as RFC 9112 allows. */
import assert from 'node:assert/strict'
import { readStrictly } from './parsers.js'

export interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
}

const STATUS_LINE = /^HTTP\/1\.1 (\d{3}) [\x20-\x7e]*$/
const HEADER = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)$/

/** Undefined until the whole head has arrived. Throws for what no client should have to read. */
export function readHead(bytes: Buffer): Answer | undefined {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const [first = '', ...lines] = text.slice(0, end).split('\r\n')
  const [, status] = STATUS_LINE.exec(first) ?? []
  assert(status !== undefined, `no status line: ${JSON.stringify(first)}`)
  const headers = new Map<string, string>()
  for (const line of lines) {
    const [, name, value] = HEADER.exec(line) ?? []
    assert(name !== undefined && value !== undefined, `no header: ${JSON.stringify(line)}`)
    headers.set(name.toLowerCase(), value)
  }
  return { status: Number(status), headers }
}

/** Checks what has arrived of an event stream, which may end anywhere. */
export function checkStream(bytes: Buffer, { headers }: Answer): void {
  const head = bytes.indexOf('\r\n\r\n') + 4
  const body = bytes.subarray(head)
  const isChunked = headers.get('transfer-encoding') === 'chunked'
  const text = isChunked ? unchunk(body) : body.toString('latin1')
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  for (const { event, data } of readStrictly([Buffer.from(whole, 'latin1')]).events) {
    const isOurs = event === '' || event === 'close' || /^sse\.(gap|cursor)$/.test(event)
    assert(isOurs, `an event that nobody has sent: ${JSON.stringify({ event, data })}`)
  }
}

function unchunk(body: Buffer): string {
  let text = ''
  for (let at = 0; at < body.length; ) {
    const end = body.indexOf('\r\n', at)
    if (end === -1) return text
    const size = body.toString('latin1', at, end)
    assert.match(size, /^[0-9a-f]+$/i, 'the size of a chunk')
    const length = Number.parseInt(size, 16)
    const from = end + 2
    text += body.toString('latin1', from, from + length)
    const after = body.toString('latin1', from + length, from + length + 2)
    assert('\r\n'.startsWith(after), `a chunk that is longer than ${size}`)
    at = from + length + 2
  }
  return text
}
