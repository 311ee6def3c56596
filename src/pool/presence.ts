/**
 * Who is connected on which process. Processes know each other by the log alone, so this asks there:
 * one question, and an answer from each process. What was said in the past is no question any more.
 */
import { hostname } from 'node:os'
import type { Listener, Messages } from '../log/messages.js'

/** How many are connected, all processes together. */
export interface PoolCount {
  /** Processes that answered. */
  processes: number
  /** Client ids; one that is connected to two processes counts twice. */
  clients: number
  streams: number
}

/** A process on which a client is connected. */
export interface Location {
  /** Host name and process id. */
  process: string
  /** The client's open streams there. */
  streams: number
}

/** What a process says of itself. */
interface Answer {
  readonly from: string
  readonly process: string
  readonly clients: number
  readonly streams: number
}

type Message =
  | { readonly says: 'here' | 'bye'; readonly from: string }
  | { readonly says: 'ask'; readonly from: string; readonly question: string; readonly id?: string }
  | ({ readonly says: 'answer'; readonly question: string } & Answer)

export interface PresenceOptions {
  readonly messages: Messages
  /** What this process has: of one client, or altogether. */
  readonly count: (id: string | undefined) => { clients: number; streams: number }
  readonly nonce: () => string
}

const TOPIC = 'presence'

/** Milliseconds for which an answer is waited for. */
const PATIENCE = 1000

export class Presence implements Listener {
  readonly #options: PresenceOptions
  readonly #self: string
  /** The other processes, as far as they have been heard of. */
  readonly #others = new Set<string>()
  /** Whether it can be that some have not been heard of: they were there before this process. */
  #mayKnowMore = true
  readonly #asked = new Map<string, (answer: Answer) => void>()

  constructor(options: PresenceOptions) {
    this.#options = options
    this.#self = options.nonce()
    options.messages.listen(TOPIC, this)
  }

  /** Tells the others, so that they need not wait for a time-out to know that there is one more. */
  enter(): Promise<void> {
    return this.#mention({ says: 'here', from: this.#self })
  }

  leave(): Promise<void> {
    return this.#mention({ says: 'bye', from: this.#self })
  }

  async locate(id: string): Promise<Location[]> {
    const answers = await this.#ask(id)
    return answers
      .filter(({ streams }) => streams > 0)
      .map(({ process, streams }) => ({ process, streams }))
  }

  async count(): Promise<PoolCount> {
    const total = { processes: 0, clients: 0, streams: 0 }
    for (const { clients, streams } of await this.#ask(undefined)) {
      total.processes += 1
      total.clients += clients
      total.streams += streams
    }
    return total
  }

  hear(message: unknown): void {
    if (!isMessage(message) || message.from === this.#self) return
    if (message.says === 'bye') this.#others.delete(message.from)
    else this.#others.add(message.from)
    if (message.says === 'ask') {
      const { question, id } = message
      void this.#mention({ says: 'answer', question, ...this.#answer(id) })
    }
    if (message.says === 'answer') this.#asked.get(message.question)?.(message)
  }

  /** One that has come may have said so unheard. */
  missed(): void {
    this.#mayKnowMore = true
  }

  async #ask(id: string | undefined): Promise<Answer[]> {
    const answers = [this.#answer(id)]
    if (this.#options.messages.isAlone) return answers
    const question = this.#options.nonce()
    const waitsFor = new Set(this.#others)
    const isComplete = () => waitsFor.size === 0 && !this.#mayKnowMore
    let timer: NodeJS.Timeout | undefined
    let settle = () => {}
    this.#asked.set(question, answer => {
      answers.push(answer)
      waitsFor.delete(answer.from)
      if (isComplete()) settle()
    })
    try {
      await this.#tell({ says: 'ask', from: this.#self, question, ...(id !== undefined && { id }) })
      if (isComplete()) return answers
      await new Promise<void>(resolve => {
        settle = resolve
        // Only now: nobody is silent to what the log has not stored yet.
        timer = setTimeout(() => {
          // Gone without a word, and not to be waited for again.
          for (const silent of waitsFor) this.#others.delete(silent)
          this.#mayKnowMore = false
          resolve()
        }, PATIENCE)
      })
    } finally {
      clearTimeout(timer)
      this.#asked.delete(question)
    }
    return answers
  }

  #answer(id: string | undefined): Answer {
    const process_ = `${hostname()}:${process.pid}`
    return { from: this.#self, process: process_, ...this.#options.count(id) }
  }

  /** Tells what nobody waits for: if it fails, others wait for a time-out instead. */
  async #mention(message: Message): Promise<void> {
    await this.#tell(message).catch(() => {})
  }

  #tell(message: Message): Promise<void> {
    return this.#options.messages.tell(TOPIC, message)
  }
}

function isMessage(body: unknown): body is Message {
  return typeof (body as Message | null | undefined)?.from === 'string'
}
