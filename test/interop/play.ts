/** Plays the behaviours with a client, and with the options that may help it. */
import {
  ABSENCES,
  type Behaviour,
  behaviours,
  type Outcome,
  REASONS,
  type Start,
} from './behaviours.js'
import type { WorldOptions } from './world.js'

export interface Client {
  /** With the version. */
  readonly name: string
  readonly start: Start
  /** Options that may help, by the text of their footnote. */
  readonly options?: Record<string, Start>
  /** What an app has to do itself, in the same way. It shows what helps, and is no merit of the client. */
  readonly apps?: Record<string, Start>
  /** What it needs to connect to. */
  readonly world?: Pick<WorldOptions, 'script' | 'path' | 'source' | 'encode'>
}

/** The mark of each behaviour, and the text of its footnote. */
export type Row = Record<string, { mark: '✓' | '✗' | '–'; note?: string }>

const CLOSES = 'close it in a listener of the close event'

/** Lets so many play at once, and the others when one of these has finished. */
export function turns(count: number) {
  const waiting: (() => void)[] = []
  let free = count
  return async <Result>(play: () => Promise<Result>): Promise<Result> => {
    if (free === 0) await new Promise<void>(resolve => waiting.push(resolve))
    else free -= 1
    try {
      return await play()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else free += 1
    }
  }
}

/** @param turn of clients that play at the same time. */
export async function playAll(client: Client, turn: ReturnType<typeof turns>): Promise<Row> {
  const played = behaviours.map(async behaviour => {
    const { name, isIdle } = behaviour
    const attempt = () => play(client, behaviour)
    try {
      return [name, await (isIdle ? attempt() : turn(attempt))] as const
    } catch (error) {
      throw new Error(`${client.name}, ${name}: ${error}`, { cause: error })
    }
  })
  return Object.fromEntries(await Promise.all(played))
}

async function play(client: Client, behaviour: Behaviour): Promise<Row[string]> {
  const { start, world = {} } = client
  const first = await behaviour.play(start, world)
  if (first === 'works') return { mark: '✓' }
  if (isAbsence(first)) return { mark: '–', note: ABSENCES[first] }
  // On a busy machine a client may be late, so a failure counts if it is seen twice.
  if ((await behaviour.play(start, world)) === 'works') return { mark: '✓' }
  let note: string = REASONS[first]
  for (const { help, mark, attempt } of attempts(client, behaviour)) {
    const outcome = await attempt()
    if (outcome === 'works') {
      const helps = mark === '✓' ? `What helps: ${help}.` : `It works if ${help}.`
      return { mark, note: `${REASONS[first]} ${helps}` }
    }
    if (outcome !== first && !isAbsence(outcome)) {
      note = `${REASONS[first]} If ${help}, ${inSentence(outcome)}`
    }
  }
  return { mark: '✗', note }
}

function inSentence(outcome: keyof typeof REASONS): string {
  return REASONS[outcome].replace(/^./, letter => letter.toLowerCase())
}

function isAbsence(outcome: Outcome): outcome is keyof typeof ABSENCES {
  return outcome in ABSENCES
}

interface Attempt {
  /** The text that a footnote has for it. */
  readonly help: string
  /** The mark of the cell if it works. */
  readonly mark: '✓' | '✗'
  attempt(): Promise<Outcome>
}

function attempts(client: Client, behaviour: Behaviour): Attempt[] {
  const { start, world = {}, options = {}, apps = {} } = client
  const starts = (others: Record<string, Start>, mark: Attempt['mark']): Attempt[] =>
    Object.entries(others).map(([help, other]) => ({
      help,
      mark,
      attempt: () => behaviour.play(other, world),
    }))
  const routes = Object.entries(behaviour.routes ?? {}).map(
    ([help, route]): Attempt => ({
      help,
      mark: '✓',
      attempt: () => behaviour.play(start, { ...world, route }),
    }),
  )
  const closing = behaviour.mayClose ? { [CLOSES]: closingAtEnd(start) } : {}
  return [...starts(options, '✓'), ...routes, ...starts(closing, '✓'), ...starts(apps, '✗')]
}

/** The client, closed as soon as it shows the close event. */
function closingAtEnd(start: Start): Start {
  return async world => {
    const stop = await start(world)
    void world
      .until(() => world.shown.some(({ name }) => name === 'close'))
      .then(async isShown => {
        if (!isShown) return
        await stop()
        world.end()
      })
    return stop
  }
}
