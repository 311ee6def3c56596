/** POST of durable streams (sections 5.2 and 5.3). */
import type { RunAddition, RunAppended, RunProducer, RunRecord } from '../../log/run-store.js'
import { formatOffset } from '../offset.js'
import { producerOf } from './producer-headers.js'
import { type DurableRequest, type DurableStream, endingOf, Refusal, streamOf } from './request.js'
import { entriesOf, readBody } from './request-body.js'
import { mimeOf } from './stream-config.js'

export async function appendToStream(request: DurableRequest): Promise<void> {
  const { ctx, store, id, maxBodyBytes } = request
  const producer = producerOf(ctx)
  const body = await readBody(ctx, maxBodyBytes)
  const ending = endingOf(ctx)
  if (body.length === 0 && ending === undefined) {
    throw new Refusal(
      400,
      'The body is empty; only a request with Stream-Closed: true may have none',
    )
  }
  const contentType = ctx.headers['content-type'] ?? ''
  if (body.length > 0 && contentType === '') throw new Refusal(400, 'Content-Type is missing')
  const stream = streamOf(await store.get(id))
  const addition: RunAddition = {
    entries: checkedEntries(stream, contentType, body),
    ending,
    // A stream that was deleted and created again meanwhile is not the one that was checked.
    generation: stream.run.generation,
    producer,
    order: body.length > 0 ? ctx.headers['stream-seq']?.toString() : undefined,
  }
  const appended = await store.append(id, addition)
  answerAppended(request, appended, producer, body.length > 0)
}

/** What is appended: nothing if the stream is closed, which comes before all other conflicts (section 5.2). */
function checkedEntries(
  { run, config }: DurableStream,
  contentType: string,
  body: Buffer,
): readonly string[] {
  if (body.length === 0 || run.status === 'ended') return []
  if (mimeOf(contentType) !== mimeOf(config.contentType)) {
    throw new Refusal(409, `The stream is ${config.contentType}; got ${contentType}`)
  }
  const entries = entriesOf(config.contentType, body)
  if (entries.length === 0)
    throw new Refusal(400, 'The array is empty, so there is nothing to append')
  return entries
}

function answerAppended(
  { ctx }: DurableRequest,
  { outcome, run, producer: known }: RunAppended,
  producer: RunProducer | undefined,
  hasBody: boolean,
): void {
  if (outcome === 'unknown' || run === undefined) {
    // Throws for what there is now, else it is another stream than the one that was checked.
    streamOf(run)
    throw new Refusal(404, 'The stream was deleted')
  }
  const progress = progressOf(run)
  switch (outcome) {
    case 'ended':
      if (!hasBody && producer === undefined) break
      throw new Refusal(409, 'The stream is closed', progress)
    case 'stale epoch':
      throw new Refusal(403, 'The producer has begun a newer epoch', {
        'Producer-Epoch': String(known?.epoch),
      })
    case 'wrong start':
      throw new Refusal(400, 'A new epoch must begin with Producer-Seq 0')
    case 'gap':
      throw new Refusal(409, 'Appends of the producer are missing', {
        'Producer-Expected-Seq': String(known === undefined ? 0 : known.seq + 1),
        'Producer-Received-Seq': String(producer?.seq),
      })
    case 'wrong order':
      throw new Refusal(409, 'Stream-Seq must be greater than that of the last append')
  }
  ctx.set(progress)
  if (producer !== undefined) {
    ctx.set('Producer-Epoch', String(producer.epoch))
    ctx.set('Producer-Seq', String(known?.seq ?? producer.seq))
  }
  const isNewData = outcome === 'appended' && hasBody
  if (producer === undefined || !isNewData) {
    ctx.status = 204
    return
  }
  // Section 5.2.1: this status tells new data of a producer from a duplicate.
  ctx.status = 200
  ctx.body = ''
}

function progressOf(run: RunRecord): Record<string, string> {
  return {
    'Stream-Next-Offset': formatOffset(run.tail, run),
    ...(run.status === 'ended' && { 'Stream-Closed': 'true' }),
  }
}
