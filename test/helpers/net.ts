import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'

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
