import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeFrame,
  encodeComment,
  encodePoolEvent,
  encodeStreamEvent,
  isPoolFrame,
} from '../../src/wire/event.js'
import { entryFrame } from '../../src/wire/frames.js'
import { hostileText, mutated } from './mutate.js'
import { cut, type Read, readByUndici, readStrictly } from './parsers.js'
import { corpus, fuzz, TIMEOUT } from './runs.js'

const LIMITS = { serialize: JSON.stringify, maxEventBytes: 1024 * 1024 }
const ID = 'k3-9f2c'

interface Sent {
  event?: string
  retry?: number
  data: string
}

/** A text as it arrives: the format cannot carry CR, and UTF-8 cannot carry a lone surrogate. */
const arriving = (text: string) => Buffer.from(text.replace(/\r\n|\r/g, '\n')).toString()

const name = fc
  .oneof(
    fc.string({ unit: 'grapheme-ascii', maxLength: 8 }),
    fc.constantFrom('data', ': x', ' lead', 'trail ', 'id: 7', 'é', '日本', '😀', ''),
  )
  .filter(text => !text.startsWith('sse.'))

const event = fc.record(
  { event: name, retry: fc.nat(), data: hostileText },
  { requiredKeys: ['data'] },
)

/** Checks that both parsers read this event, and nothing before or after it. */
async function expectOne(
  text: string,
  { event = '', retry, data }: Sent,
  id: string,
  sizes: number[],
) {
  const chunks = cut(Buffer.from(text), sizes)
  const expected: Read = { event, id, data: arriving(data) }
  const strict = readStrictly(chunks)
  expect(strict.events).toEqual([expected])
  expect(strict.retries).toEqual(retry === undefined ? [] : [retry])
  // undici names the default event `message`, as browsers do.
  const other = { ...expected, event: event === 'message' ? '' : event }
  expect(await readByUndici(chunks)).toEqual([other])
  return strict
}

const sizes = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 })

async function checkPoolEvent(sent: Sent, cuts: number[]): Promise<void> {
  const frame = encodePoolEvent(sent, LIMITS)
  expect(isPoolFrame(frame)).toBe(true)
  expect(decodeFrame(frame)).toEqual({
    event: sent.event || 'message',
    data: sent.data.replace(/\r\n|\r/g, '\n'),
    ...(sent.retry !== undefined && { retry: sent.retry }),
  })
  await expectOne(entryFrame(ID, frame), sent, ID, cuts)
}

test.each(corpus('events'))(
  'two parsers read one equal event from the data in %s',
  async (_, bytes) => {
    const data = bytes.toString()
    await checkPoolEvent({ data }, [1])
    await checkPoolEvent({ event: 'update', retry: 0, data }, [7])
    const { comments } = readStrictly([Buffer.from(encodeComment(data))])
    expect(comments).toEqual(arriving(data).split('\n'))
  },
)

test('two parsers read one equal event from each pool event', { timeout: TIMEOUT }, () =>
  fuzz('pool events', 0.2, fc.asyncProperty(event, sizes, checkPoolEvent)),
)

test('two parsers read one equal event from each stream event, and its comment as a comment', {
  timeout: TIMEOUT,
}, () => {
  const id = fc.oneof(
    fc.string({ unit: 'grapheme-ascii', maxLength: 8 }).filter(text => !text.startsWith('sse.')),
    fc.integer().map(String),
  )
  return fuzz(
    'stream events with comments',
    0.15,
    fc.asyncProperty(event, id, hostileText, sizes, async (sent, id, comment, cuts) => {
      const text = encodeComment(comment) + encodeStreamEvent({ ...sent, id }, LIMITS)
      const { comments } = await expectOne(text, sent, id, cuts)
      expect(comments).toEqual(arriving(comment).split('\n'))
    }),
  )
})

test('a changed frame is refused, or two parsers read exactly one event from it', {
  timeout: TIMEOUT,
}, () => {
  const frames = event.map(sent => encodePoolEvent(sent, LIMITS))
  return fuzz(
    'changed frames',
    0.15,
    fc.asyncProperty(mutated(frames, hostileText), sizes, async (frame, cuts) => {
      if (!isPoolFrame(frame)) return
      const chunks = cut(Buffer.from(entryFrame(ID, frame)), cuts)
      for (const events of [readStrictly(chunks).events, await readByUndici(chunks)]) {
        expect(events).toHaveLength(1)
        expect(events[0]?.id).toBe(ID)
        expect(events[0]?.event).not.toMatch(/^sse\./)
      }
    }),
  )
})
