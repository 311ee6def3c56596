/**
 * What the processes of a pool tell each other about their streams, such as how many there are and where a client
 * is. Processes know each other only through the log, so this asks there: one question, and an answer from each
 * process. Older questions that a process finds in the log when it starts are not answered.
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
export interface Answer {
  readonly from: string
  readonly process: string
  readonly clients: number
  readonly streams: number
  readonly body?: unknown
}

/** What is asked. Versions that do not know a topic answer with their counts alone. */
interface Question extends Group {
  /** What {@link Processes.answerTo} was called with, and what its function gets. */
  readonly topic?: string | undefined
  readonly body?: unknown
  /** The only process that is to answer. Default: all. */
  readonly to?: string | undefined
}

/** The answers to a {@link Processes.survey}. */
export interface Answers {
  /** The `body` is undefined where a process does not know the topic. */
  readonly answers: readonly Answer[]
  /** Processes that did not answer in time. */
  readonly missing: readonly Pick<Answer, 'from' | 'process'>[]
}

type Message =
  | { readonly says: 'here'; readonly from: string; readonly process?: string }
  | { readonly says: 'bye'; readonly from: string }
  | ({ readonly says: 'ask'; readonly from: string; readonly question: string } & Question)
  | ({ readonly says: 'answer'; readonly question: string } & Answer)

/** Whose streams are counted: those of a client, those in a channel, or all. */
export interface Group {
  readonly id?: string | undefined
  readonly channel?: string | undefined
}

/** Counts what this process has: the hub. */
export interface Census {
  count(group: Group): { clients: number; streams: number }
}

const TOPIC = 'presence'

/** What this process is called: its host and its id. */
const PROCESS = `${hostname()}:${process.pid}`

/** How long to wait for answers. */
const ANSWER_TIMEOUT_MS = 1000

export class Processes implements Listener {
  readonly #messages: Messages
  readonly #census: Census
  readonly #nonce: () => string
  readonly #self: string
  /** The other processes, as far as they have announced themselves, and their names where these are known. */
  readonly #others = new Map<string, string>()
  readonly #answerers = new Map<string, (body: unknown) => unknown>()
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
    return this.#announce({ says: 'here', from: this.#self, process: PROCESS })
  }

  leave(): Promise<void> {
    return this.#announce({ says: 'bye', from: this.#self })
  }

  async locate(id: string): Promise<Location[]> {
    const { answers } = await this.#ask({ id })
    return answers
      .filter(({ streams }) => streams > 0)
      .map(({ process, streams }) => ({ process, streams }))
  }

  async count(group: Group = {}): Promise<PoolCount> {
    const total = { processes: 0, clients: 0, streams: 0 }
    for (const { clients, streams } of (await this.#ask(group)).answers) {
      total.processes += 1
      total.clients += clients
      total.streams += streams
    }
    return total
  }

  /** This process, as other parts of the package name it in `to`. */
  get self(): string {
    return this.#self
  }

  /** Answers the questions of a topic on this process. The question may come from a newer version. */
  answerTo(topic: string, answer: (body: unknown) => unknown): void {
    this.#answerers.set(topic, answer)
  }

  /**
   * Asks all processes, or one of them, a question of a topic. Question and answers are entries in the log, whose
   * size the engine limits (NATS: 1 MB by default).
   */
  survey(topic: string, body: object, to?: string): Promise<Answers> {
    return this.#ask({ topic, body, to })
  }

  receive(message: unknown): void {
    if (!isMessage(message) || message.from === this.#self) return
    if (message.says === 'bye') this.#others.delete(message.from)
    else this.#others.set(message.from, nameOf(message) ?? this.#others.get(message.from) ?? '')
    if (message.says === 'ask' && (message.to === undefined || message.to === this.#self)) {
      const { question } = message
      void this.#announce({ says: 'answer', question, ...this.#answer(message) })
    }
    if (message.says === 'answer') this.#asked.get(message.question)?.(message)
  }

  /** A new process may have announced itself meanwhile. */
  missed(): void {
    this.#mayHaveMore = true
  }

  async #ask(asked: Question): Promise<Answers> {
    const { to } = asked
    const answers = to === undefined || to === this.#self ? [this.#answer(asked)] : []
    if (this.#messages.isAlone || to === this.#self) return { answers, missing: [] }
    const question = this.#nonce()
    const missing = new Map(to === undefined ? this.#others : [[to, this.#others.get(to) ?? '']])
    const isComplete = () => missing.size === 0 && (to !== undefined || !this.#mayHaveMore)
    let timer: NodeJS.Timeout | undefined
    let settle = () => {}
    this.#asked.set(question, answer => {
      answers.push(answer)
      missing.delete(answer.from)
      if (isComplete()) settle()
    })
    try {
      await this.#publish({ says: 'ask', from: this.#self, question, ...asked })
      if (!isComplete()) {
        await new Promise<void>(resolve => {
          settle = resolve
          // Only now: no process can answer a question that the log has not stored yet.
          timer = setTimeout(() => {
            // A process that has died without a goodbye is not waited for again.
            for (const silent of missing.keys()) this.#others.delete(silent)
            if (to === undefined) this.#mayHaveMore = false
            resolve()
          }, ANSWER_TIMEOUT_MS)
        })
      }
    } finally {
      clearTimeout(timer)
      this.#asked.delete(question)
    }
    return {
      answers,
      missing: Array.from(missing, ([from, name]) => ({ from, process: name || from })),
    }
  }

  #answer(asked: Question): Answer {
    const { topic, body } = asked
    const answer = { from: this.#self, process: PROCESS, ...this.#census.count(asked) }
    const answerer = topic === undefined ? undefined : this.#answerers.get(topic)
    return answerer === undefined ? answer : { ...answer, body: answerer(body) }
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

/** The name that a message carries; a value of another type comes from something else. */
function nameOf(message: Message): string | undefined {
  const { process } = message as { process?: unknown }
  return typeof process === 'string' ? process : undefined
}
