// @ts-check
// nginx instead of proxy.js: `node server.js --nginx`.
import { writeFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts, startProgram } from './parts.js'

/** @param {{ ports: number[], control: number, port: number, host: string }} options */
export async function startNginx({ ports, control, port: wanted, host }) {
  const port = wanted || Number(await freePorts(1))
  const nginx = await startProgram('nginx', async folder => {
    const file = join(folder, 'nginx.conf')
    await writeFile(file, configure({ ports, control, listen: `${host}:${port}` }))
    return ['-p', folder, '-e', 'stderr', '-c', file]
  })
  nginx.output.resume()
  // nginx does not report when it listens.
  while (!(await isListening(port, host))) await sleep(20)
  return { port, close: nginx.close }
}

const configure = ({ ports, control, listen }) => `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;

  upstream processes {
    least_conn; # streams are long-lived, so round robin alone would not balance them
${ports
  .map(
    port => `    # no pause after a failure, so that a restarted process is used at once
    server 127.0.0.1:${port} max_fails=0;`,
  )
  .join('\n')}
  }

  server {
    listen ${listen};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_next_upstream error timeout http_503;

    location / {
      proxy_pass http://processes;
    }
    location /control/ {
      proxy_pass http://127.0.0.1:${control};
    }
    # No need to turn buffering off here: the package sends X-Accel-Buffering.
    location = /events {
      proxy_pass http://processes;
      # A browser never tries again after a 5xx. An empty stream tells it when to come back.
      proxy_intercept_errors on;
      error_page 502 503 504 = @again;
    }
    location @again {
      default_type text/event-stream;
      add_header Cache-Control no-store always;
      return 200 "retry: 700\\n\\n";
    }
  }
}
`

function isListening(port, host) {
  return new Promise(resolve => {
    const socket = net.connect(port, host)
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
