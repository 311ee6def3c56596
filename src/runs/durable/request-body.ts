/** The raw body of a request, and the entries that it becomes. */
import type { Context } from 'koa'
import { MAX_MESSAGES } from './json-messages.js'
import { Refusal } from './request.js'
import { formatOf } from './stream-format.js'

/** @throws Refusal with 413 for a body that is too large, and 500 if something else has read it. */
export async function readBody({ req, headers }: Context, maxBytes: number): Promise<Buffer> {
  const length = Number(headers['content-length'])
  if (length === 0) return Buffer.alloc(0)
  if (req.readableDidRead) {
    throw new Refusal(
      500,
      'The request body was already read, probably by a body parser. Mount durableStreams() before it',
    )
  }
  if (length > maxBytes) throw tooLarge(maxBytes)
  const chunks: Buffer[] = []
  let total = 0
  for await (const chunk of incoming(req)) {
    total += chunk.length
    if (total > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The chunks of a body. Leaving the loop keeps the connection, so that the refusal arrives. */
async function* incoming(req: Context['req']): AsyncGenerator<Buffer> {
  try {
    yield* req.iterator({ destroyOnReturn: false })
  } catch {
    // The client has left, so this answer only ends the request.
    throw new Refusal(400, 'The request body is incomplete')
  }
}

function tooLarge(maxBytes: number): Refusal {
  return new Refusal(413, `The body is larger than ${maxBytes} bytes; send it in parts`)
}

/** @throws Refusal with 400 for a body that is not of the stream's content type, and 413 for too many messages. */
export function entriesOf(contentType: string, body: Buffer): string[] {
  const entries = parse(contentType, body)
  if (entries.length <= MAX_MESSAGES) return entries
  throw new Refusal(
    413,
    `The array has more than ${MAX_MESSAGES} messages; send them in several requests`,
  )
}

function parse(contentType: string, body: Buffer): string[] {
  try {
    return formatOf(contentType).entriesOf(body)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new Refusal(400, `The body is not JSON: ${error.message}`)
  }
}
