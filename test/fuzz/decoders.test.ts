import fc from 'fast-check'
import type { PoolEvent } from 'koa-sse-pool'
import { expect, test } from 'vitest'
import { historySuffix, parseCursor } from '../../src/delivery/history.js'
import { type Entry, formatTarget, parseTarget, targetOfMembers } from '../../src/log/log.js'
import { MemoryLog } from '../../src/log/memory.js'
import { MESSAGE } from '../../src/log/messages.js'
import { checkNonce, isNonce } from '../../src/log/shared.js'
import { decodeEntry, encodeEntry, incarnationOf, sequenceOf } from '../../src/nats/entry.js'
import { hubOf } from '../../src/pool/hub.js'
import { compareIds, idBefore, toEntry, toFields } from '../../src/redis/entry.js'
import { JTI, parseCookies } from '../../src/tickets/cookie.js'
import { TokenSigner } from '../../src/tickets/token-signer.js'
import { encodePoolEvent, isPoolFrame } from '../../src/wire/event.js'
import { entryFrame } from '../../src/wire/frames.js'
import { FakeLog } from '../helpers/fake-log.js'
import { testPool } from '../helpers/server.js'
import { claims, forge, SECRET } from '../helpers/tickets.js'
import { hostileText, mutated } from './mutate.js'
import { readStrictly } from './parsers.js'
import { corpus, fuzz, TIMEOUT } from './runs.js'

const LIMITS = { serialize: JSON.stringify, maxEventBytes: 1024 * 1024 }

const frame = fc
  .record({ event: fc.constantFrom('', 'update'), data: hostileText })
  .map(event => encodePoolEvent(event as PoolEvent, LIMITS))
const target = fc.oneof(
  fc.constantFrom('', '*', '@ada', '#news', '-ada', '*\nada', '#news\nada', '?', '!x'),
  fc.constantFrom('*\nada\nbob', '#a\n\t#b\n\t#c', '@ada\n\t<1700000000000\n\t~'),
  hostileText,
)
const entry = fc.record(
  {
    nonce: fc.constantFrom('n1', 'AAAA-bbbb_01', 'x'.repeat(32)),
    target,
    frame: mutated(frame, hostileText),
    key: hostileText,
  },
  { requiredKeys: ['nonce', 'target', 'frame'] },
)

/** Checks that a frame is refused as foreign, or is exactly one event when it is on the wire. */
function expectNoSecondEvent({ frame, id }: Entry): void {
  if (!isPoolFrame(frame)) return
  const { events } = readStrictly([Buffer.from(entryFrame(id, frame))])
  expect(events).toHaveLength(1)
}

test('a changed message of NATS yields no entry, or at most one event', {
  timeout: TIMEOUT,
}, () => {
  const incarnation = incarnationOf('2026-01-01T00:00:00.123456789Z')
  return fuzz(
    'messages of NATS',
    0.08,
    fc.property(mutated(entry.map(encodeEntry), hostileText), fc.nat(), (text, sequence) => {
      const decoded = decodeEntry(Buffer.from(text), sequence, incarnation)
      if (decoded === undefined) return
      expect(isNonce(decoded.nonce)).toBe(true)
      expect(sequenceOf(decoded.id, incarnation)).toBe(sequence)
      expectNoSecondEvent(decoded)
    }),
  )
})

test('random bytes are no message of NATS', { timeout: TIMEOUT }, () =>
  fuzz(
    'bytes in NATS',
    0.02,
    fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
      expect(decodeEntry(bytes, 1, '-x-')).toBe(undefined)
    }),
  ),
)

test('a changed row of Redis yields no entry, or at most one event', { timeout: TIMEOUT }, () => {
  const fields = entry.chain(valid =>
    fc.tuple(...toFields(valid).map(field => mutated(fc.constant(field), hostileText))),
  )
  const row = fc.oneof(fields, fc.array(hostileText, { maxLength: 9 }))
  return fuzz(
    'rows of Redis',
    0.05,
    fc.property(row, fields => {
      const decoded = toEntry(['1700000000000-7', fields])
      if (decoded === undefined) return
      expect(isNonce(decoded.nonce)).toBe(true)
      expect(compareIds(decoded.id, '1700000000000-7-other')).toBe(0)
      expectNoSecondEvent(decoded)
    }),
  )
})

test('no id of a client makes the engines throw', { timeout: TIMEOUT }, async () => {
  const memory = new MemoryLog()
  let mark = ''
  await memory.open({
    reset: ([first]) => {
      mark = first?.id ?? ''
    },
    append() {},
    state() {},
    error() {},
  })
  const ours = fc.constantFrom(mark, '1700000000000-0-n1', '1-2-3', '9-0', 'k3-1a-n1')
  const id = mutated(ours, hostileText)
  await fuzz(
    'ids',
    0.04,
    fc.property(id, id, (a, b) => {
      for (const compare of [compareIds, memory.compare.bind(memory)]) {
        const [order, reverse] = [compare(a, b), compare(b, a)]
        expect(typeof order).toBe('number')
        expect(order + reverse).toEqual(Number.isNaN(order) ? Number.NaN : 0)
      }
      expect(typeof sequenceOf(a, '-1a-')).toBe('number')
      expect(typeof idBefore(a)).toBe('string')
      const check = () => checkNonce(a)
      if (isNonce(a)) expect(check).not.toThrow()
      else expect(check).toThrow(TypeError)
    }),
  )
})

test('a target is read as it was written, and other text never throws', { timeout: TIMEOUT }, () =>
  fuzz(
    'targets',
    0.03,
    fc.property(mutated(target, hostileText), text => {
      const address = parseTarget(text)
      if (address === undefined) return
      expect(parseTarget(formatTarget(address))).toEqual(address)
      expect(parseTarget(targetOfMembers(address))?.name).toBe(address.name)
    }),
  ),
)

test('a cursor is read as it was written, and other text never throws', { timeout: TIMEOUT }, () =>
  fuzz(
    'cursors',
    0.03,
    fc.property(
      mutated(fc.constantFrom('a-1.b-2', 'a-1.b-2.latest', 'a-1', ''), hostileText),
      cursor => {
        const { id, openedAtId, latestOnly } = parseCursor(cursor)
        expect(id).not.toContain('.')
        if (openedAtId === undefined) return
        const written = id + historySuffix(openedAtId, latestOnly)
        expect(parseCursor(written)).toEqual({ id, openedAtId, latestOnly })
      },
    ),
  ),
)

test('the pairs of a cookie header hold no separator, and none throws', { timeout: TIMEOUT }, () =>
  fuzz(
    'cookie headers',
    0.03,
    fc.property(
      mutated(fc.constantFrom('a=b; sse-AAAABBBBCCCCDDDD=x.y.z', 'a=b;c=d', ';;='), hostileText),
      header => {
        for (const { name, value } of parseCookies(header)) {
          expect(name).not.toMatch(/[=;]|^$|^\s|\s$/)
          expect(value).not.toMatch(/;|^\s|\s$/)
        }
      },
    ),
  ),
)

const signer = new TokenSigner([new TextEncoder().encode(SECRET)])

test.each(corpus('tokens'))('the token in %s is refused', async (_, bytes) => {
  expect(await signer.verify('sse-ticket', bytes.toString())).toBeTypeOf('string')
})

test('a changed token is refused with a reason and never throws', {
  timeout: TIMEOUT,
}, async () => {
  const jti = 'AAAABBBBCCCCDDDD'
  expect(jti).toMatch(JTI)
  const valid = await forge(claims({ jti }))
  expect(await signer.verify('sse-ticket', valid)).toMatchObject({ jti })
  const encoded = (text: string) => Buffer.from(text).toString('base64url')
  const header = mutated(fc.constant('{"alg":"HS256","typ":"sse-ticket"}'), hostileText)
  const rebuilt = fc.tuple(header, hostileText).map(parts => `${parts.map(encoded).join('.')}.AAAA`)
  await fuzz(
    'tokens',
    0.05,
    fc.asyncProperty(fc.oneof(mutated(fc.constant(valid), hostileText), rebuilt), async token => {
      const result = await signer.verify('sse-ticket', token)
      // Base64 decoders ignore the unused bits of the last character, so a changed text may still verify.
      if (typeof result === 'object') expect(result).toMatchObject({ jti })
      else expect(['malformed', 'algorithm', 'signature']).toContain(result)
    }),
  )
})

test('whatever another program appends, a pool does not throw and reads only whole events', {
  timeout: TIMEOUT,
}, async () => {
  const log = new FakeLog('a')
  let renewals = 0
  const pool = testPool({ log, window: { events: 50 } })
  pool.on('error', error => {
    throw error
  })
  const hub = hubOf(pool)
  const subscribe = () =>
    hub.subscribe({ id: 'ada', channels: ['news'] }, log.stored.at(-1)?.id ?? '', 'missed')
  let subscription = subscribe()
  /** Goes on with another log, so that refilling the window stays cheap. */
  const renew = () => {
    renewals += 1
    log.epoch = `a${renewals}`
    log.stored = []
    log.store({ nonce: 'mark', target: '', frame: '' })
    log.reset('replaced')
    subscription.read()
  }
  const says = fc.constantFrom('here', 'bye', 'ask', 'answer', 'shout', 7)
  const body = fc.oneof(
    fc.anything(),
    fc.record(
      { says, from: hostileText, question: fc.anything(), id: fc.anything() },
      { requiredKeys: ['from'] },
    ),
    fc.record(
      { name: hostileText, by: hostileText, at: fc.anything(), until: fc.anything() },
      { requiredKeys: ['name'] },
    ),
  )
  const topic = fc.constantFrom('presence', 'claim', 'other', 7)
  const message = fc.tuple(topic, body).map(([topic, body]) => jsonOf({ topic, body }))
  const messageEntry = mutated(message, hostileText).map(frame => ({
    ...{ nonce: 'n1', target: MESSAGE, frame },
  }))
  await fuzz(
    'entries and messages of other programs',
    0.1,
    fc.property(fc.oneof(entry, messageEntry), fc.boolean(), (given, refills) => {
      if (log.stored.length > 60) renew()
      log.store(given)
      if (refills) log.reset('trimmed')
      else log.deliver()
      const read = subscription.read().filter(({ event }) => !event.startsWith('sse.'))
      expect(read.length).toBeLessThanOrEqual(1)
      if (read.length === 1) expect(isPoolFrame(given.frame)).toBe(true)
      // A removal ends it, as it should.
      if (subscription.isClosed) subscription = subscribe()
    }),
  )
  subscription.close()
})

/** JSON of anything; what has no JSON becomes null. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? String(part) : part))
  } catch {
    return 'null'
  }
}
