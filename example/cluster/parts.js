// @ts-check
// Starts the programs that the example needs (redis-server, nginx), and finds free ports.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

/** @param {string} program */
export function findProgram(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin']
  return folders.map(folder => join(folder, program)).find(isExecutable)
}

/**
 * Starts a program in a new temporary folder. `close()` ends it and deletes the folder. So does the end
 * of this process, even by SIGKILL, because the shell around the program then sees its input end.
 *
 * @param {string} program
 * @param {(folder: string) => string[] | Promise<string[]>} argumentsFor
 */
export async function startProgram(program, argumentsFor) {
  const path = findProgram(program)
  if (!path)
    throw new Error(`${program} is not on the PATH: install it, or run the example without it`)
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-example-'))
  const guard = 'cd "$0" && { "$@" & child=$!; read -r _; kill $child; wait; rm -r "$0"; }'
  const child = spawn('sh', ['-c', guard, folder, path, ...(await argumentsFor(folder))], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // or Ctrl+C would end it at once, before the processes that still need it
  })
  return {
    output: child.stdout,
    async close() {
      const ended = once(child, 'exit')
      child.stdin.end()
      await ended
    },
  }
}

/** Ports that were free a moment ago, for programs whose port must be known before they listen. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map(server => once(server, 'listening')))
  const ports = servers.map(server => {
    const { port } = /** @type {net.AddressInfo} */ (server.address())
    return port
  })
  await Promise.all(servers.map(server => once(server.close(), 'close')))
  return ports
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
