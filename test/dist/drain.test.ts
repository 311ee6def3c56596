/**
 * Five thousand clients of the npm package `eventsource`, whose server is told to end while another one
 * runs. A client always tries the first server before the other, which is the worst that a proxy can do.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import http2, { type ClientHttp2Session } from 'node:http2'
import { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { EventSource } from 'eventsource'
import { expect, onTestFinished, test } from 'vitest'

const CLIENTS = 5000
const SPREAD_MS = 3000

interface Process {
  readonly child: ChildProcess
  readonly origin: string
  readonly stderr: () => string
  streams(): Promise<number>
}

async function start(protocol: string): Promise<Process> {
  const file = fileURLToPath(new URL('drain-server.js', import.meta.url))
  const child = fork(file, [protocol, String(SPREAD_MS)], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stderr = ''
  child.stderr?.on('data', text => {
    stderr += text
  })
  const [{ port }] = await once(child, 'message')
  const streams = async () => {
    child.send('?')
    const [figures] = await once(child, 'message')
    return figures.streams
  }
  return { child, origin: `http://127.0.0.1:${port}`, stderr: () => stderr, streams }
}

type Answer = Awaited<ReturnType<typeof fetch>>
type Ask = (origin: string, path: string, headers: Record<string, string>) => Promise<Answer>

const http1: Ask = (origin, path, headers) => fetch(`${origin}${path}`, { headers })

/** HTTP/2, a hundred streams on a connection as in a browser. */
function overHttp2(): Ask {
  const sessions = new Map<string, ClientHttp2Session>()
  return (origin, path, headers) => {
    const place = `${origin} ${Number(path.slice(1)) % (CLIENTS / 100)}`
    let session = sessions.get(place)
    if (session === undefined || session.closed || session.destroyed) {
      session = http2.connect(origin)
      session.on('error', () => {})
      onTestFinished(() => session?.destroy())
      sessions.set(place, session)
    }
    const stream = session.request({ ':path': path, ...headers })
    return new Promise((resolve, reject) => {
      stream.once('error', reject)
      stream.once('close', () => reject(new Error('no answer')))
      stream.once('response', fields => {
        stream.on('error', () => {})
        const type = String(fields['content-type'])
        const body = Readable.toWeb(stream) as ReadableStream
        resolve(
          new Response(body, {
            status: fields[':status'] as number,
            headers: { 'Content-Type': type },
          }),
        )
      })
    })
  }
}

/** Notes the reconnect delays that the answer tells its client. */
function noting(retries: number[], { body, status, headers }: Answer): Answer {
  const note = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      const [, retry] = /^retry: (\d+)$/m.exec(Buffer.from(chunk).toString()) ?? []
      if (retry !== undefined) retries.push(Number(retry))
      controller.enqueue(chunk)
    },
  })
  return new Response(body?.pipeThrough(note), { status, headers })
}

test.each([
  ['http', () => http1],
  ['http2', overHttp2],
])(
  '5,000 clients move to another process when theirs is told to end, over %s (fault 51)',
  async (protocol, makeAsk) => {
    const ask = makeAsk()
    const [first, second] = [await start(protocol), await start(protocol)]
    const retries: number[] = []
    const sources = Array.from(
      { length: CLIENTS },
      (_, i) =>
        new EventSource(`http://clients.test/${i}`, {
          fetch: async (url, { headers }) => {
            const { pathname } = new URL(url)
            const answer = ask(first.origin, pathname, headers)
            return noting(retries, await answer.catch(() => ask(second.origin, pathname, headers)))
          },
        }),
    )
    onTestFinished(() => {
      for (const source of sources) source.close()
    })
    while ((await first.streams()) < CLIENTS) await pause(50)
    expect(await second.streams()).toBe(0)

    first.child.kill('SIGTERM')
    const [code, signal] = await once(first.child, 'exit')
    expect({ code, signal, stderr: first.stderr() }).toEqual({ code: 0, signal: null, stderr: '' })

    while ((await second.streams()) < CLIENTS) await pause(50)
    expect(sources.filter(({ readyState }) => readyState !== EventSource.OPEN)).toEqual([])
    expect(retries.length).toBeGreaterThanOrEqual(CLIENTS)
    // Each was told a delay of its own, so that they do not come back together.
    expect(new Set(retries).size).toBeGreaterThan(1000)
    expect(Math.min(...retries)).toBeGreaterThanOrEqual(1000)
  },
)
