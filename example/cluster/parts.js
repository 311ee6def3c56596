// @ts-check
// Programs that are started beside the processes, and ports for all of them.
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
 * Starts a program in a new temporary folder. It ends, and the folder goes, with `close()` or with
 * this process, even by SIGKILL: the shell around it then sees the end of its input.
 *
 * @param {string} program
 * @param {(folder: string) => string[] | Promise<string[]>} argumentsFor
 */
export async function startProgram(program, argumentsFor) {
  const path = findProgram(program)
  if (!path) throw new Error(`${program} is not on the PATH: install it, or do without`)
  const folder = await mkdtemp(join(tmpdir(), 'koa-sse-pool-example-'))
  const guard = 'cd "$0" && { "$@" & child=$!; read -r _; kill $child; wait; rm -r "$0"; }'
  const child = spawn('sh', ['-c', guard, folder, path, ...(await argumentsFor(folder))], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // Ctrl+C in the terminal is for us; this one ends after all who need it
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

/** Ports that were free a moment ago, for those who must know theirs before they listen. */
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
