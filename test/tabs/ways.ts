/** What can stand between a page and its server. */
import http from 'node:http'
import net from 'node:net'
import { listen } from '../helpers/server.js'

/** A way that can fall silent: the connections stay open, and nothing more comes from the server. */
export async function silentWay(port: number) {
  const held = new Set<net.Socket>()
  const streams = new Set<net.Socket>()
  const server = net.createServer(near => {
    const far = net.connect(port, '127.0.0.1')
    near.on('data', data => {
      if (String(data).startsWith('GET /events')) streams.add(near)
      far.write(data)
    })
    far.on('data', data => held.has(near) || near.write(data))
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => {})
      one.on('close', () => {
        streams.delete(near)
        if (!held.has(other)) other.destroy()
      })
    }
  })
  const { origin } = await listen(server as unknown as http.Server)
  return {
    origin,
    /** For the streams that are open now. Those that come later are not silent. */
    fallSilent(): void {
      for (const near of streams) held.add(near)
    },
  }
}

/** A proxy that passes on a response only when it is complete, as some virus scanners do. */
export async function bufferingWay(port: number) {
  const server = http.createServer((request, response) => {
    const { method, url: path, headers } = request
    const onward = http.request({ port, host: '127.0.0.1', method, path, headers }, answer => {
      const chunks: Buffer[] = []
      answer.on('data', chunk => chunks.push(chunk))
      answer.on('end', () => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        response.end(Buffer.concat(chunks))
      })
      answer.on('error', () => response.destroy())
    })
    onward.on('error', () => response.destroy())
    response.on('close', () => onward.destroy())
    request.pipe(onward)
  })
  return listen(server)
}
