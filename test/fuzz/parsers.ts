/** Two parsers of event streams that share no code with the package, nor with each other. */
import { createParser } from 'eventsource-parser'
import { EventSourceStream } from 'undici/lib/web/eventsource/eventsource-stream.js'

export interface Read {
  readonly event: string
  readonly id: string
  readonly data: string
}

/** What eventsource-parser reads, with its comments and its reconnect delays. Throws for an unknown line. */
export function readStrictly(chunks: readonly Buffer[]) {
  const events: Read[] = []
  const comments: string[] = []
  const retries: number[] = []
  const parser = createParser({
    onEvent: ({ event = '', id = '', data }) => events.push({ event, id, data }),
    onComment: comment => comments.push(comment),
    onRetry: retry => retries.push(retry),
    onError: error => {
      throw error
    },
  })
  const decoder = new TextDecoder()
  for (const chunk of chunks) parser.feed(decoder.decode(chunk, { stream: true }))
  return { events, comments, retries }
}

/** What the parser of undici's EventSource reads. */
export async function readByUndici(chunks: readonly Buffer[]): Promise<Read[]> {
  const parser = new EventSourceStream({ eventSourceSettings: { lastEventId: '' } })
  for (const chunk of chunks) parser.write(chunk)
  parser.end()
  const events: Read[] = []
  for await (const { type, options } of parser) {
    events.push({
      event: type === 'message' ? '' : type,
      id: options.lastEventId ?? '',
      data: options.data,
    })
  }
  return events
}

/** Splits bytes as a network might, also inside a character. */
export function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  for (let from = 0; from < bytes.length; ) {
    const size = sizes[chunks.length % sizes.length] ?? bytes.length
    chunks.push(bytes.subarray(from, from + size))
    from += size
  }
  return chunks
}
