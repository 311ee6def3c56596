// @ts-check
// nginx with nchan, if installed. It has one worker, whose CPU time and memory are read from /proc.
// This process only publishes, and runs on the client's core.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { host, settings } from '../parts/host.js'
import { pin } from '../parts/worker.js'

const MODULE = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules']
  .map(folder => `${folder}/ngx_nchan_module.so`)
  .find(existsSync)

export const isHere = MODULE !== undefined && spawnSync('nginx', ['-v']).status === 0

if (process.send && process.argv[1]?.endsWith('nchan.js')) await run()

async function run() {
  const folder = mkdtempSync(join(tmpdir(), 'nchan-'))
  const port = await freePort()
  writeFileSync(join(folder, 'nginx.conf'), config(port, folder))
  const [command = '', ...args] = [
    ...pin('server'),
    ...['nginx', '-c', join(folder, 'nginx.conf'), '-e', join(folder, 'error.log')],
  ]
  const nginx = spawn(command, args, { stdio: 'ignore' })
  const end = () => {
    nginx.kill('SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  }
  process.on('exit', end)
  const worker = await workerOf(/** @type {number} */ (nginx.pid))

  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  /** @param {string} path @param {import('../parts/event.js').BenchEvent} event */
  const post = (path, { event, data }) =>
    new Promise((resolve, reject) => {
      const headers = { 'X-EventSource-Event': event, 'Content-Type': 'application/json' }
      request({ port, agent, path, method: 'POST', headers })
        .on('response', res => res.resume().on('end', resolve))
        .on('error', reject)
        .end(JSON.stringify(data))
    })
  host({
    port,
    feedPath: '/publish',
    broadcast: event => post('/publish', event),
    sendToChannel: (name, event) => post(`/publish?channel=${name}`, event),
    replays: true,
    usage: () => usageOf(worker),
  })
}

/** @param {number} port @param {string} folder */
function config(port, folder) {
  return `
load_module ${MODULE};
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 100000;
pid ${folder}/pid;
events { worker_connections 25000; }
http {
  access_log off;
  client_body_temp_path ${folder};
  server {
    listen 127.0.0.1:${port} backlog=4096;
    tcp_nodelay on;
    keepalive_requests 1000000;
    client_max_body_size 10m;
    client_body_buffer_size 1m;
    location = /publish {
      nchan_publisher;
      nchan_channel_id all$arg_channel;
      nchan_message_buffer_length ${settings.history || 100};
    }
    location = / {
      nchan_subscriber eventsource;
      nchan_channel_id all$arg_channel;
      nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval ${settings.ping / 1000};
    }
  }
}
`
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
      server.close(() => resolve(port))
    })
  })
}

/** @param {number} master */
async function workerOf(master) {
  for (let tries = 0; tries < 100; tries += 1) {
    const [pid] = readFileSync(`/proc/${master}/task/${master}/children`, 'utf8').split(' ')
    if (pid) {
      await sleep(200)
      return Number(pid)
    }
    await sleep(50)
  }
  throw new Error('nginx started no worker')
}

/** @param {number} pid @returns {import('../parts/host.js').Usage} */
function usageOf(pid) {
  const [nanoseconds] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1])
  return { cpu: Number(nanoseconds) / 1000, rss: pages * 4096 }
}
