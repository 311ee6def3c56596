import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

/**
 * A loopback port for a program that has to be given one. Nothing reserves it, so the program must be
 * started at once.
 */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/**
 * A port that leads to another one over a slow link: each piece of data takes some milliseconds, both ways.
 * Closed when the test has finished.
 */
export async function slowLink(port: number, milliseconds: number): Promise<number> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer(near => {
    const far = net.connect(port, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.setNoDelay()
      from.on('data', data => setTimeout(() => to.write(data), milliseconds))
      from.on('error', () => {})
      from.on('close', () => to.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}
