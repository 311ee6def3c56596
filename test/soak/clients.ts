/** Clients that cost the process as little as possible, because they live in it too. */
import { once } from 'node:events'
import { type ClientHttp2Session, constants } from 'node:http2'
import net from 'node:net'

const { NGHTTP2_CANCEL } = constants

/** One request and what has come back so far. */
export interface Visit {
  /** Resolves when one of these texts has arrived, or when the connection is over. */
  until(...texts: string[]): Promise<void>
  /** Everything that has arrived. */
  readonly text: string
  readonly ended: Promise<void>
  /** Cuts the connection, at whatever it is. */
  cut(): void
  /** Stops reading. */
  pause(): void
}

export type Connect = (path: string, headers: Readonly<Record<string, string>>) => Promise<Visit>

export function overHttp1(port: number): Connect {
  return async (path, headers) => {
    const socket = net.connect(port, '127.0.0.1')
    const visit = reading(socket)
    const lines = Object.entries({ Host: 'localhost', Connection: 'keep-alive', ...headers })
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    socket.write(`GET ${path} HTTP/1.1\r\n${head}\r\n`)
    return visit
  }
}

export function overHttp2(session: () => ClientHttp2Session): Connect {
  return async (path, headers) => {
    const names = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])
    const stream = session().request({ ':path': path, ...Object.fromEntries(names) })
    const visit = reading(stream)
    await Promise.race([once(stream, 'response'), visit.ended])
    return visit
  }
}

function reading(source: net.Socket | ReturnType<ClientHttp2Session['request']>): Visit {
  let text = ''
  let check = () => {}
  source.setEncoding('utf8')
  source.on('data', (more: string) => {
    text += more
    check()
    // Over HTTP/1.1 the connection outlives the response, which ends with an empty chunk.
    if (text.endsWith('\r\n0\r\n\r\n')) source.destroy()
  })
  source.on('error', () => {})
  const ended = new Promise<void>(resolve => {
    source.once('close', resolve)
    // What the server has ended is closed from this side too; over HTTP/2 it is closed by then.
    if (source instanceof net.Socket) source.once('end', () => source.destroy())
  })
  return {
    get text() {
      return text
    },
    ended,
    until: (...wanted) =>
      new Promise(resolve => {
        check = () => {
          if (wanted.some(one => text.includes(one))) resolve()
        }
        check()
        void ended.then(resolve)
      }),
    // Over HTTP/2 as browsers do it: after a reset without an error, Node itself never frees an ordinary answer
    // that was still being written.
    cut() {
      if (source instanceof net.Socket) source.destroy()
      else {
        source.close(NGHTTP2_CANCEL)
        // If the server has ended it, a stream that is not read would stay open for ever.
        source.resume()
      }
    },
    pause: () => source.pause(),
  }
}
