/**
 * The same random requests to `durableStreams()` and to the protocol's reference server: the answers must not
 * differ where the protocol leaves no choice. Where they do on purpose, `DELIBERATE` says why.
 */
import { DurableStreamTestServer } from '@durable-streams/server'
import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { durableStreams, memoryRuns } from 'koa-sse-pool/runs'
import { expect, onTestFinished, test } from 'vitest'
import { serveApp } from '../helpers/app.js'

const ROOT = '/v1/stream/'
const NAMES = ['a', 'b', 'c']
const TYPES = ['text/plain', 'application/json', 'application/octet-stream']
/** How clients of the reference server write the offset of the beginning in `Stream-Fork-Offset`. */
const ZERO = '0000000000000000_0000000000000000'

type Headers = Record<string, string>

/** A request. Offsets are indexes of those that both servers have given for the stream. */
interface Command {
  kind:
    | 'create'
    | 'fork'
    | 'append'
    | 'close'
    | 'read'
    | 'poll'
    | 'events'
    | 'head'
    | 'delete'
    | 'revalidate'
  name: string
  source: string
  type: string | undefined
  text: string
  isClosing: boolean
  ttl: string | undefined
  producer: { id: string; epoch: number; seq: number } | undefined
  order: string | undefined
  offset: 'none' | '-1' | 'now' | number
  sub: number | undefined
}

const command: fc.Arbitrary<Command> = fc.record({
  kind: fc.oneof(
    { weight: 3, arbitrary: fc.constant('create' as const) },
    { weight: 4, arbitrary: fc.constant('fork' as const) },
    { weight: 8, arbitrary: fc.constant('append' as const) },
    { weight: 2, arbitrary: fc.constant('close' as const) },
    { weight: 5, arbitrary: fc.constant('read' as const) },
    { weight: 1, arbitrary: fc.constant('poll' as const) },
    { weight: 1, arbitrary: fc.constant('events' as const) },
    { weight: 2, arbitrary: fc.constant('head' as const) },
    { weight: 2, arbitrary: fc.constant('delete' as const) },
    { weight: 2, arbitrary: fc.constant('revalidate' as const) },
  ),
  name: fc.constantFrom(...NAMES),
  source: fc.constantFrom(...NAMES),
  // Mostly the one of the run, or most requests would fail for that.
  type: sometimes(fc.constantFrom(...TYPES), 8),
  text: fc.constantFrom('', 'x', 'two\nlines\n', '{"a":1}', '[1,[2],{"b":[]}]', '[]', '"s"', '7'),
  isClosing: fc.nat({ max: 11 }).map(value => value === 0),
  ttl: sometimes(fc.constantFrom('60', '60', '3600', '060', '-1'), 4),
  producer: sometimes(
    fc.record({
      id: fc.constantFrom('p', 'p', 'q'),
      epoch: fc.nat({ max: 1 }),
      seq: fc.nat({ max: 1 }),
    }),
    1,
  ),
  order: sometimes(fc.constantFrom('1', '10', '2', 'B', 'a'), 6),
  offset: fc.oneof(
    fc.constantFrom('none' as const, '-1' as const, 'now' as const),
    fc.nat({ max: 9 }),
  ),
  sub: sometimes(fc.nat({ max: 4 }), 3),
})

/** Undefined that many times as often. */
function sometimes<Value>(arbitrary: fc.Arbitrary<Value>, rarity: number) {
  return fc.oneof({ weight: rarity, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
}

/** An answer, with everything that the protocol determines. */
interface Answer {
  status: number
  body: unknown
  headers: Record<string, string | boolean | undefined>
  offset: string | null
  etag: string | null
}

interface Differs {
  readonly why: string
  readonly when: (command: Command, ours: Answer, theirs: Answer, isFork: boolean) => boolean
}

const DELIBERATE: Differs[] = [
  {
    why: 'A fork that has inherited its type or lifetime is created again by the same request: 200. The reference compares what was inherited with what was asked for: 409.',
    when: ({ kind }, ours, theirs, isFork) =>
      kind === 'fork' && isFork && ours.status === 200 && theirs.status === 409,
  },
  {
    why: 'A long poll from -1 waits while the stream is empty, as from its first offset. The reference answers 200 without data at once.',
    when: ({ kind }, ours, theirs) =>
      kind === 'poll' &&
      ours.status === 204 &&
      theirs.status === 200 &&
      ['', '[]'].includes(
        typeof theirs.body === 'string' ? theirs.body : JSON.stringify(theirs.body),
      ),
  },
  {
    why: 'A deleted stream that has forks refuses to be closed, with or without a producer: 410. The reference closes it if there is a producer.',
    when: (command, ours) =>
      isCloseOnly(command) && command.producer !== undefined && ours.status === 410,
  },
  {
    why: 'A request to close that repeats an earlier append closes nothing, and is not answered with Stream-Closed. The reference says that the stream is closed, though it is open.',
    when: (command, ours, theirs) =>
      isCloseOnly(command) &&
      command.producer !== undefined &&
      ours.status === 204 &&
      theirs.status === 204 &&
      ours.headers['stream-closed'] === undefined,
  },
]

/** What must come up in the run. */
const OUTCOMES = [
  ...[201, 200, 400, 409].map(status => `create ${status}`),
  ...[201, 200, 400, 404, 409].map(status => `fork ${status}`),
  ...[200, 204, 400, 403, 404, 409, 410].map(status => `append ${status}`),
  ...[204, 404, 409, 410].map(status => `close ${status}`),
  ...[200, 404, 410].map(status => `read ${status}`),
  ...[200, 304, 404].map(status => `revalidate ${status}`),
  ...[200, 204, 404].map(status => `poll ${status}`),
  ...[200, 404, 410].map(status => `head ${status}`),
  ...[204, 404, 410].map(status => `delete ${status}`),
  'events 200',
]

function isCloseOnly({ kind, text, isClosing }: Command): boolean {
  return kind === 'close' || (kind === 'append' && text === '' && isClosing)
}

test('durableStreams() answers as the reference server does', async () => {
  const { origin } = await serveApp(durableStreams({ store: memoryRuns(), longPollTimeout: 10 }))
  const reference = new DurableStreamTestServer({
    port: 0,
    longPollTimeout: 10,
    compression: false,
  })
  await reference.start()
  onTestFinished(() => reference.stop())
  const deliberate = new Set<Differs>()
  const outcomes = new Set<string>()
  let run = 0
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...TYPES),
      fc.array(command, { minLength: 1, maxLength: 60, size: 'max' }),
      async (type, commands) => {
        run += 1
        const pair = new Pair([origin, reference.url], `${run}-`, type, outcomes)
        for (const one of commands) {
          const difference = await pair.compare(one)
          if (difference !== undefined) deliberate.add(difference)
        }
      },
    ),
    { seed: 20_241_009, numRuns: 250, endOnFailure: true },
  )
  // The comparison is worth something only if the requests reach what there is.
  expect(OUTCOMES.filter(outcome => !outcomes.has(outcome))).toEqual([])
  expect([...deliberate]).toEqual(expect.arrayContaining(DELIBERATE))
}, 120_000)

/** The two servers, with what they have said so far. */
class Pair {
  readonly #servers: readonly [string, string]
  readonly #prefix: string
  /** The content type of a request that names no other. */
  readonly #type: string
  readonly #outcomes: Set<string>
  /** The offsets of each stream, as both have given them in the same answer. */
  readonly #offsets = new Map<string, [string, string][]>()
  /** Of the newest read from the beginning. */
  readonly #etags = new Map<string, [string, string]>()
  readonly #forks = new Set<string>()

  constructor(
    servers: readonly [string, string],
    prefix: string,
    type: string,
    outcomes: Set<string>,
  ) {
    this.#servers = servers
    this.#prefix = prefix
    this.#type = type
    this.#outcomes = outcomes
  }

  /** @returns the deliberate difference, if there is one. */
  async compare(command: Command): Promise<Differs | undefined> {
    if (command.kind === 'events' && !(await this.#isClosed(command))) return undefined
    const [ours, theirs] = await Promise.all([this.#send(command, 0), this.#send(command, 1)])
    this.#outcomes.add(`${command.kind} ${ours.status}`)
    const isFork = this.#forks.has(command.name)
    const difference = DELIBERATE.find(({ when }) => when(command, ours, theirs, isFork))
    if (difference === undefined) {
      const { offset: ourOffset, etag: ourTag, ...ourRest } = ours
      const { offset: theirOffset, etag: theirTag, ...theirRest } = theirs
      expect({ command, ...ourRest }).toEqual({ command, ...theirRest })
      if (ourOffset !== null && theirOffset !== null) {
        this.#learn(command.name, ourOffset, theirOffset)
      } else if (theirOffset !== null) expect(ourOffset).not.toBeNull()
      const isWhole = command.kind === 'read' && ['none', '-1'].includes(`${command.offset}`)
      if (ourTag !== null && theirTag !== null && isWhole) {
        this.#etags.set(command.name, [ourTag, theirTag])
      }
    }
    this.#update(command, ours)
    return difference
  }

  /** Offsets of both must be equal, or in the same order, in the same cases. */
  #learn(name: string, ours: string, theirs: string): void {
    const known = this.#offsets.get(name) ?? []
    for (const [ourOther, theirOther] of known) {
      expect(Math.sign(compareTexts(ours, ourOther))).toBe(
        Math.sign(compareTexts(theirs, theirOther)),
      )
    }
    this.#offsets.set(name, [...known, [ours, theirs]])
  }

  #update({ kind, name }: Command, { status }: Answer): void {
    if (kind === 'fork' && status === 201) this.#forks.add(name)
    if (kind !== 'delete' || status !== 204) return
    for (const known of [this.#offsets, this.#etags, this.#forks]) known.delete(name)
  }

  /** Whether the events of a stream end by themselves. */
  async #isClosed({ name }: Command): Promise<boolean> {
    const { headers } = await fetch(this.#url(0, name), { method: 'HEAD' })
    return headers.has('stream-closed')
  }

  /** As a reader of the events would know it. */
  async #isJson({ name }: Command): Promise<boolean> {
    const { headers } = await fetch(this.#url(0, name), { method: 'HEAD' })
    return headers.get('content-type') === 'application/json'
  }

  #url(server: 0 | 1, name: string): string {
    return `${this.#servers[server]}${ROOT}${this.#prefix}${name}`
  }

  async #send(command: Command, server: 0 | 1): Promise<Answer> {
    const { kind, name, type = this.#type, text, isClosing, producer, order } = command
    const url = this.#url(server, name)
    const query = this.#query(command, server)
    const content: Headers = { 'Content-Type': type }
    const closing: Headers = isClosing ? { 'Stream-Closed': 'true' } : {}
    switch (kind) {
      case 'create':
        return ask('PUT', url, { ...content, ...this.#lifetime(command), ...closing }, text)
      case 'fork':
        return ask('PUT', url, this.#forkHeaders(command, server), '')
      case 'append': {
        // Which error of two is reported first is open, so there is one at most.
        const isValid = type !== 'application/json' || isJsonMessage(text)
        const headers = isValid && { ...producerHeaders(producer), ...orderHeader(order) }
        return ask('POST', url, { ...content, ...headers, ...closing }, text)
      }
      case 'close':
        return ask('POST', url, { 'Stream-Closed': 'true', ...producerHeaders(producer) }, '')
      case 'read':
        return ask('GET', `${url}${query}`, {})
      case 'revalidate': {
        const etag = this.#etags.get(name)?.[server] ?? '"none"'
        return ask('GET', url, { 'If-None-Match': etag })
      }
      case 'poll':
        return ask('GET', `${url}${query || '?offset=-1'}&live=long-poll`, {})
      case 'events':
        return ask(
          'GET',
          `${url}${query || '?offset=-1'}&live=sse`,
          {},
          undefined,
          await this.#isJson(command),
        )
      case 'head':
        return ask('HEAD', url, {})
      case 'delete':
        return ask('DELETE', url, {})
    }
  }

  #query({ name, offset }: Command, server: 0 | 1): string {
    if (offset === 'none') return ''
    return `?offset=${typeof offset === 'number' ? this.#offset(name, offset, server) : offset}`
  }

  #offset(name: string, index: number, server: 0 | 1): string {
    const known = this.#offsets.get(name) ?? []
    return known[index % known.length]?.[server] ?? '-1'
  }

  #lifetime({ ttl }: Command): Headers {
    return ttl === undefined ? {} : { 'Stream-TTL': ttl }
  }

  #forkHeaders({ source, offset, sub, type }: Command, server: 0 | 1): Headers {
    const known = this.#offsets.get(source) ?? []
    const at =
      typeof offset === 'number'
        ? known[offset % known.length]?.[server]
        : offset === '-1'
          ? ZERO
          : undefined
    return {
      'Stream-Forked-From': `${ROOT}${this.#prefix}${source}`,
      ...(type !== undefined && { 'Content-Type': type }),
      ...(at !== undefined && { 'Stream-Fork-Offset': at }),
      ...(sub !== undefined && { 'Stream-Fork-Sub-Offset': String(sub) }),
    }
  }
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function isJsonMessage(text: string): boolean {
  try {
    return text !== '[]' && JSON.parse(text) !== undefined
  } catch {
    return false
  }
}

function producerHeaders(producer: Command['producer']): Headers {
  if (producer === undefined) return {}
  return {
    'Producer-Id': producer.id,
    'Producer-Epoch': String(producer.epoch),
    'Producer-Seq': String(producer.seq),
  }
}

function orderHeader(order: string | undefined): Headers {
  return order === undefined ? {} : { 'Stream-Seq': order }
}

const COMPARED = [
  'stream-up-to-date',
  'stream-closed',
  'stream-ttl',
  'stream-expires-at',
  'stream-sse-data-encoding',
  'producer-epoch',
  'producer-seq',
  'producer-expected-seq',
  'producer-received-seq',
]

async function ask(
  method: string,
  url: string,
  headers: Headers,
  text?: string,
  isJson = false,
): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers,
    // With an empty text, fetch would add a content type.
    ...(text && { body: text }),
  })
  const body = await response.text()
  const { status, ok } = response
  const type = response.headers.get('content-type')
  // A 304 stands for the answer that the client has, with its headers.
  if (status === 304) return { status, body, headers: {}, offset: null, etag: null }
  const compared: Answer['headers'] = Object.fromEntries(
    COMPARED.map(name => [name, response.headers.get(name) ?? undefined]),
  )
  // A 200 of a POST has no body, so its type means nothing.
  if (ok && method !== 'POST' && status !== 204) compared['content-type'] = type ?? undefined
  compared.cursor = response.headers.has('stream-cursor')
  compared.location = response.headers.get('location')?.replace(/^https?:\/\/[^/]+/, '')
  const isSse = type === 'text/event-stream'
  return {
    status,
    // The text of an error is open.
    body: !ok
      ? undefined
      : isSse
        ? eventsOf(body, isJson, response.headers.has('stream-sse-data-encoding'))
        : type === 'application/json'
          ? json(body)
          : body,
    headers: compared,
    offset: response.headers.get('stream-next-offset'),
    etag: response.headers.get('etag'),
  }
}

function json(text: string): unknown {
  return text === '' ? '' : JSON.parse(text)
}

/** What a reader of events knows at the end, however the server has cut it into events. */
function eventsOf(text: string, isJson: boolean, isBase64: boolean): unknown {
  const messages: unknown[] = []
  let data = ''
  let last: Record<string, unknown> = {}
  const parser = createParser({
    onEvent: ({ event, data: payload }) => {
      if (event === 'control') last = JSON.parse(payload)
      else if (isBase64) data += Buffer.from(payload, 'base64').toString('latin1')
      else if (isJson) messages.push(...JSON.parse(payload))
      else data += payload
    },
  })
  parser.feed(text)
  return { messages, data, streamClosed: last.streamClosed }
}
