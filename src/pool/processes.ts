/**
 * What the processes of a pool tell each other about their streams: how many there are, and where a client is. Processes know each other only through the log,
 * so this asks there: one question, and an answer from each process. Older questions that a process finds
 * in the log when it starts are not answered.
 */
import { hostname } from 'node:os'
import type { Listener, Messages } from '../log/messages.js'

/** How many clients and streams are connected, all processes together. */
export interface PoolCount {
  /** Processes that answered. */
  processes: number
  /** Connected client ids; a client that is connected to two processes counts twice. */
  clients: number
  /** Open streams. */
  streams: number
}

/** A process on which a client is connected. */
export interface Location {
  /** Host name and process id. */
  process: string
  /** The client's open streams there. */
  streams: number
}

/** What a process reports about itself. */
interface Answer {
  readonly from: string
  readonly process: string
  readonly clients: number
  readonly streams: number
}

type Message =
  | { readonly says: 'here' | 'bye'; readonly from: string }
  | ({ readonly says: 'ask'; readonly from: string; readonly question: string } & Group)
  | ({ readonly says: 'answer'; readonly question: string } & Answer)

/** Whose streams are counted: those of a client, those in a channel, or all. */
export interface Group {
  readonly id?: string
  readonly channel?: string
}

/** Counts what this process has: the hub. */
export interface Census {
  count(group: Group): { clients: number; streams: number }
}

const TOPIC = 'presence'

/** How long to wait for answers. */
const ANSWER_TIMEOUT_MS = 1000

export class Processes implements Listener {
  readonly #messages: Messages
  readonly #census: Census
  readonly #nonce: () => string
  readonly #self: string
  /** The other processes, as far as they have announced themselves. */
  readonly #others = new Set<string>()
  /** True until one question has timed out: older processes may not have announced themselves yet. */
  #mayHaveMore = true
  readonly #asked = new Map<string, (answer: Answer) => void>()

  constructor(messages: Messages, census: Census, nonce: () => string) {
    this.#messages = messages
    this.#census = census
    this.#nonce = nonce
    this.#self = nonce()
    messages.listen(TOPIC, this)
  }

  /** Announces this process, so that the others need no timeout to know that there is one more. */
  enter(): Promise<void> {
    return this.#announce({ says: 'here', from: this.#self })
  }

  leave(): Promise<void> {
    return this.#announce({ says: 'bye', from: this.#self })
  }

  async locate(id: string): Promise<Location[]> {
    const answers = await this.#ask({ id })
    return answers
      .filter(({ streams }) => streams > 0)
      .map(({ process, streams }) => ({ process, streams }))
  }

  async count(group: Group = {}): Promise<PoolCount> {
    const total = { processes: 0, clients: 0, streams: 0 }
    for (const { clients, streams } of await this.#ask(group)) {
      total.processes += 1
      total.clients += clients
      total.streams += streams
    }
    return total
  }

  receive(message: unknown): void {
    if (!isMessage(message) || message.from === this.#self) return
    if (message.says === 'bye') this.#others.delete(message.from)
    else this.#others.add(message.from)
    if (message.says === 'ask') {
      const { question } = message
      void this.#announce({ says: 'answer', question, ...this.#answer(message) })
    }
    if (message.says === 'answer') this.#asked.get(message.question)?.(message)
  }

  /** A new process may have announced itself meanwhile. */
  missed(): void {
    this.#mayHaveMore = true
  }

  async #ask(group: Group): Promise<Answer[]> {
    const answers = [this.#answer(group)]
    if (this.#messages.isAlone) return answers
    const question = this.#nonce()
    const missing = new Set(this.#others)
    const isComplete = () => missing.size === 0 && !this.#mayHaveMore
    let timer: NodeJS.Timeout | undefined
    let settle = () => {}
    this.#asked.set(question, answer => {
      answers.push(answer)
      missing.delete(answer.from)
      if (isComplete()) settle()
    })
    try {
      await this.#publish({ says: 'ask', from: this.#self, question, ...group })
      if (isComplete()) return answers
      await new Promise<void>(resolve => {
        settle = resolve
        // Only now: no process can answer a question that the log has not stored yet.
        timer = setTimeout(() => {
          // A process that has died without a goodbye is not waited for again.
          for (const silent of missing) this.#others.delete(silent)
          this.#mayHaveMore = false
          resolve()
        }, ANSWER_TIMEOUT_MS)
      })
    } finally {
      clearTimeout(timer)
      this.#asked.delete(question)
    }
    return answers
  }

  #answer(group: Group): Answer {
    const process_ = `${hostname()}:${process.pid}`
    return { from: this.#self, process: process_, ...this.#census.count(group) }
  }

  /** Publishes without reporting a failure: the other processes then run into the timeout instead. */
  async #announce(message: Message): Promise<void> {
    await this.#publish(message).catch(() => {})
  }

  #publish(message: Message): Promise<void> {
    return this.#messages.publish(TOPIC, message)
  }
}

function isMessage(body: unknown): body is Message {
  return typeof (body as Message | null | undefined)?.from === 'string'
}
