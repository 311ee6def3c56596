/** Plays the behaviours with a client, and with the options that may help it. */
import type Koa from 'koa'
import { type Behaviour, behaviours, type Outcome, REASONS, type Start } from './behaviours.js'
import type { World } from './world.js'

export interface Client {
  /** With the version. */
  readonly name: string
  readonly start: Start
  /** Options of the client that may help, by the text of their footnote. */
  readonly options?: Record<string, Start>
  /** The script of the page in which it runs. */
  readonly script?: string
  /** Answers its requests in place of `sse()`. */
  readonly handler?: (world: World) => Koa.Middleware
  /** The behaviours that it has. Default: all. */
  readonly only?: readonly string[]
  /** What it can show of a text. Default: the text. */
  readonly encode?: (text: string) => string
}

/** The mark of each behaviour, and the text of its footnote. */
export type Row = Record<string, { mark: '✓' | '✗' | '–'; note?: string }>

const CLOSES = 'close it in a listener of the close event'

export async function playAll(client: Client, atOnce = Number.POSITIVE_INFINITY): Promise<Row> {
  const row: Row = {}
  const waiting = [...behaviours]
  const workers = Array.from({ length: Math.min(atOnce, waiting.length) }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      try {
        row[next.name] = await play(client, next)
      } catch (error) {
        throw new Error(`${client.name}, ${next.name}: ${error}`, { cause: error })
      }
    }
  })
  await Promise.all(workers)
  return row
}

async function play(client: Client, behaviour: Behaviour): Promise<Row[string]> {
  const given = { script: client.script, encode: client.encode, handler: client.handler }
  if (client.only?.includes(behaviour.name) === false) return { mark: '–' }
  const first = await behaviour.play(client.start, given)
  if (first === 'works') return { mark: '✓' }
  // On a busy machine a client may be late, so a failure counts if it is seen twice.
  if ((await behaviour.play(client.start, given)) === 'works') return { mark: '✓' }
  for (const [note, attempt] of attempts(client, behaviour)) {
    if ((await attempt()) === 'works')
      return { mark: '✓', note: `${REASONS[first]} What helps: ${note}.` }
  }
  return { mark: '✗', note: REASONS[first] }
}

function attempts(client: Client, behaviour: Behaviour): [string, () => Promise<Outcome>][] {
  const { script, encode, handler, start, options = {} } = client
  const given = { script, encode, handler }
  const own = Object.entries(options).map(
    ([note, other]) => [note, () => behaviour.play(other, given)] as const,
  )
  const routes = Object.entries(behaviour.routes ?? {}).map(
    ([note, route]) => [note, () => behaviour.play(start, { ...given, route })] as const,
  )
  const closing = [CLOSES, () => behaviour.play(closingAtEnd(start), given)] as const
  return [...own, ...routes, ...(behaviour.mayClose ? [closing] : [])].map(([note, attempt]) => [
    note,
    attempt,
  ])
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
