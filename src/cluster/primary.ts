/**
 * The half of the cluster log in the primary: assigns ids, keeps the newest entries and feeds its
 * members, which are all logs that have made a request.
 *
 * A member has no queue, only the number of its next entry and one message in flight. If it is slow to
 * read that message, the next one is larger. If its next entry was dropped meanwhile, it receives the
 * whole window again.
 */
import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import type { Entry } from '../log/log.js'

const TYPE = 'koa-sse-pool'

interface PrimaryOptions {
  readonly name: string
  readonly events: number
  readonly bytes: number
}

export type NewEntry = Omit<Entry, 'id'>
/** A numbered request: store an entry, return the last id, or forget this member. */
export type Request = readonly [number: number, what: NewEntry | 'last' | 'close']

/** A message over IPC, where the app may also send messages of its own. */
interface Message {
  readonly type: typeof TYPE
  readonly name: string
  /** The id of the log in a worker; one worker may have several, even with the same name. */
  readonly member: string
}

export interface RequestMessage extends Message {
  readonly requests: readonly Request[]
}

export interface ResponseMessage extends Message {
  readonly ids: readonly (readonly [number: number, id: string])[]
  readonly entries: readonly Entry[]
  /** The entries begin a new window instead of following those sent before. */
  readonly startsWindow: boolean
  /** The window is incomplete: the next message continues it. */
  readonly hasMore: boolean
}

export type Send<M> = (message: M, done: (error: Error | null) => void) => void

/** A message is full at this many characters, so that serializing it does not block for long. */
export const MESSAGE_CHARACTERS = 1024 * 1024

interface Member {
  readonly send: Send<ResponseMessage>
  readonly ids: [number, string][]
  /** The number of the next entry to send. */
  next: number
  /** The number at which its current window ends; entries before it belong to the window. */
  windowEnd: number
  isBusy: boolean
}

/** One log, in the primary. */
export class Primary {
  readonly #options: PrimaryOptions
  /** Distinguishes this log's ids from those before a restart of the primary. */
  readonly #suffix = `-${randomBytes(6).toString('hex')}`
  /** The entries by number, oldest first. */
  readonly #entries = new Map<number, Entry>()
  readonly #idsByNonce = new Map<string, string>()
  readonly #members = new Map<string, Member>()
  #first = 0
  #next = 0
  #size = 0

  constructor(options: PrimaryOptions) {
    this.#options = options
    // Begin with a mark, so that clients have a cursor before the first event.
    this.#store({ nonce: '', target: '', frame: '' })
  }

  receive({ requests, member: id }: RequestMessage, send: Send<ResponseMessage>): void {
    for (const [number, what] of requests) {
      if (what === 'close') {
        this.#members.delete(id)
        continue
      }
      let member = this.#members.get(id)
      if (member === undefined) {
        member = { send, ids: [], next: -1, windowEnd: 0, isBusy: false }
        this.#members.set(id, member)
      }
      member.ids.push([number, what === 'last' ? this.#id(this.#next - 1) : this.#store(what)])
    }
    for (const [id, member] of this.#members) this.#feed(id, member)
  }

  #id(number: number): string {
    return number.toString(36) + this.#suffix
  }

  #store(entry: NewEntry): string {
    const known = this.#idsByNonce.get(entry.nonce)
    if (known !== undefined) return known
    const id = this.#id(this.#next)
    this.#idsByNonce.set(entry.nonce, id)
    this.#entries.set(this.#next, { ...entry, id })
    this.#next += 1
    this.#size += sizeOf(entry)
    const { events, bytes } = this.#options
    while (this.#entries.size > events || (this.#size > bytes && this.#entries.size > 1)) {
      const oldest = this.#entries.get(this.#first) as Entry
      this.#idsByNonce.delete(oldest.nonce)
      this.#entries.delete(this.#first)
      this.#first += 1
      this.#size -= sizeOf(oldest)
    }
    return id
  }

  #feed(id: string, member: Member): void {
    if (member.isBusy || (member.ids.length === 0 && member.next === this.#next)) return
    member.isBusy = true
    // Wait for the end of the turn, so that entries of other workers go into the same message.
    setImmediate(() => {
      const startsWindow = member.next < this.#first
      if (startsWindow) {
        member.next = this.#first
        member.windowEnd = this.#next
      }
      const entries: Entry[] = []
      for (let size = 0; size < MESSAGE_CHARACTERS && member.next < this.#next; member.next++) {
        const entry = this.#entries.get(member.next) as Entry
        entries.push(entry)
        size += sizeOf(entry)
      }
      const hasMore = member.next < member.windowEnd
      const message = { ...messageHead(this.#options.name, id), ids: member.ids.splice(0), entries }
      member.send({ ...message, startsWindow, hasMore }, error => {
        member.isBusy = false
        // The worker is gone. Its replacement will register as another member.
        if (error) this.#members.delete(id)
        else this.#feed(id, member)
      })
    })
  }
}

/** A global registry, so that the ESM and CommonJS copies of the package share one log per name. */
const PRIMARIES = Symbol.for('koa-sse-pool/cluster')
const shared = globalThis as typeof globalThis & { [PRIMARIES]?: Map<string, Primary> }

/** The log of this name in this process, which is the primary; created by the first call. */
export function primaryOf(options: PrimaryOptions): Primary {
  shared[PRIMARIES] ??= listen(new Map())
  const primary = shared[PRIMARIES].get(options.name) ?? new Primary(options)
  shared[PRIMARIES].set(options.name, primary)
  return primary
}

function listen(primaries: Map<string, Primary>): Map<string, Primary> {
  cluster.on('message', (worker, message: unknown) => {
    if (!isLogMessage<RequestMessage>(message)) return
    primaries.get(message.name)?.receive(message, (message, done) => worker.send(message, done))
  })
  return primaries
}

export function messageHead(name: string, member: string): Message {
  return { type: TYPE, name, member }
}

export function isLogMessage<M extends Message>(message: unknown): message is M {
  return (Object(message) as Partial<Message>).type === TYPE
}

export function sizeOf({ target, key, frame }: NewEntry): number {
  return 64 + target.length + (key?.length ?? 0) + frame.length
}
