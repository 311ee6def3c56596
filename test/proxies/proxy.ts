/** Runs a proxy with its configuration from docs/proxies.md, in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { endWithUs } from '../e2e/process.js'
import { freePort } from '../helpers/net.js'
import { requireProgram } from '../setup/needs.js'

export const PROXIES = ['nginx', 'haproxy', 'caddy'] as const
export type ProxyName = (typeof PROXIES)[number]

/** Changes to the configuration in the docs. */
export interface Changes {
  /** Cuts quiet streams after a second instead of a minute. */
  isImpatient?: boolean
  /** Compresses everything that it may. */
  compresses?: boolean
  /** Removes the lines that contain this text, or that match, to show what they are for. */
  without?: string | RegExp
}

interface Kind {
  readonly language: string
  readonly command: (file: string, folder: string) => readonly string[]
  /** The line in the docs, and its replacement for a port. */
  readonly listen: readonly [inDocs: string, byPort: (port: number) => string]
  readonly impatient: (config: string) => string
  readonly compress: (config: string) => string
  /** Adds what the proxy needs to run on its own. */
  readonly whole: (config: string, folder: string) => string
}

const kinds: Record<ProxyName, Kind> = {
  nginx: {
    language: 'nginx',
    command: (file, folder) => ['-p', folder, '-e', 'stderr', '-c', file],
    listen: ['listen 80;', port => `listen 127.0.0.1:${port};`],
    impatient: config => `proxy_read_timeout 1s;\n${config}`,
    compress: config => `gzip on; gzip_types text/event-stream; gzip_proxied any;\n${config}`,
    whole: (config, folder) => `
      daemon off; master_process off; pid nginx.pid; events {}
      http {
        access_log off;
        ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
          .map(name => `${name}_temp_path ${folder}/${name};`)
          .join('\n')}
        ${config}
      }`,
  },
  haproxy: {
    language: 'haproxy',
    command: file => ['-db', '-f', file],
    listen: ['bind :80', port => `bind 127.0.0.1:${port}`],
    impatient: config => replace(config, /timeout (client|server) 60s/g, 'timeout $1 1s'),
    compress: config => `${config}\n  compression algo gzip\n`,
    whole: config => config,
  },
  caddy: {
    language: 'caddyfile',
    command: file => ['run', '--adapter', 'caddyfile', '--config', file],
    listen: [':80 {', port => `:${port} {`],
    // Caddy has no idle timeout unless one is set.
    impatient: config =>
      replace(config, /lb_try_duration.*/, '$&\ntransport http {\nread_timeout 1s\n}'),
    compress: config => replace(config, /handle_errors/, `${snippet('caddyfile', 1)}$&`),
    whole: config => `{\nadmin off\ndefault_bind 127.0.0.1\n}\n${config}`,
  },
}

/** Starts a proxy in front of these two ports; resolves to its origin when it accepts connections. */
export async function startProxy(
  name: ProxyName,
  backends: readonly [number, number],
  changes: Changes = {},
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `koa-sse-pool-${name}-`))
  onTestFinished(() => rm(folder, { recursive: true }))
  const port = await freePort()
  const file = join(folder, 'config')
  await writeFile(file, configure(name, port, backends, changes, folder))

  const child = spawn(requireProgram(name), kinds[name].command(file, folder), {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
  })
  const callOff = endWithUs(child, folder)
  onTestFinished(async () => {
    if (child.pid !== undefined && child.exitCode === null) {
      const exit = once(child, 'exit')
      // On SIGTERM, Caddy would wait for connections that may still be used.
      process.kill(-child.pid, 'SIGKILL')
      await exit
    }
    callOff()
  })
  await accepting(child, port)
  return `http://127.0.0.1:${port}`
}

function configure(
  name: ProxyName,
  port: number,
  backends: readonly [number, number],
  { isImpatient, compresses, without }: Changes,
  folder: string,
): string {
  const { language, listen, impatient, compress, whole } = kinds[name]
  let config = snippet(language)
  if (without) config = replace(config, withLine(without), '')
  config = replace(config, listen[0], listen[1](port))
  config = replace(config, '127.0.0.1:3000', `127.0.0.1:${backends[0]}`)
  config = replace(config, '127.0.0.1:3001', `127.0.0.1:${backends[1]}`)
  if (isImpatient) config = impatient(config)
  if (compresses) config = compress(config)
  return whole(config, folder)
}

/** A code block of that language in the docs. The first one is the configuration. */
function snippet(language: string, index = 0): string {
  const docs = readFileSync(new URL('../../docs/proxies.md', import.meta.url), 'utf8')
  const blocks = docs.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))
  const text = [...blocks][index]?.[1]
  if (text === undefined) throw new Error(`docs/proxies.md lacks block ${index} of ${language}`)
  return text
}

function withLine(part: string | RegExp): RegExp {
  if (typeof part !== 'string') return part
  return new RegExp(`^.*${part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}.*\n`, 'gm')
}

/** Unlike `String.replace`, fails if there is nothing to replace, which means that the docs have changed. */
function replace(config: string, what: string | RegExp, by: string): string {
  const changed = config.replace(what, by)
  if (changed === config) throw new Error(`There is no ${what} in docs/proxies.md:\n${config}`)
  return changed
}

/** Tries to connect until it works, because no proxy says when it is ready. */
async function accepting(child: ChildProcess, port: number): Promise<void> {
  let output = ''
  child.stdout?.on('data', text => (output += text))
  child.stderr?.on('data', text => (output += text))
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`The proxy has ended:\n${output}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
