// @ts-check
// How the examples are served: their files, a port, a clean shutdown. Nothing here is about events.
import { once } from 'node:events'
import { createReadStream, realpathSync } from 'node:fs'
import http from 'node:http'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { clientScript } from 'koa-sse-pool'
import { pageOf } from './frame.js'
import { serveSource } from './source.js'

/** Read now: by the time that the server listens, the parent may have gone. */
const parent = process.ppid

/**
 * Adds the routes of a page: public/index.html in the frame that all examples have, its files, and /client.js, which
 * makes PoolEventSource a global. `url` is that of the example's server.js; `more` names further files.
 *
 * @param {import('@koa/router').default} router
 * @param {string} url
 * @param {Record<string, URL>} [more]
 */
export function servePage(router, url, more) {
  const files = {
    '/page.css': new URL('public/page.css', url),
    '/page.js': new URL('public/page.js', url),
    '/words.js': new URL('public/words.js', url),
    '/shared/look.css': new URL('look.css', import.meta.url),
    '/shared/header.js': new URL('header.js', import.meta.url),
    '/shared/language.js': new URL('language.js', import.meta.url),
    '/shared/words.js': new URL('words.js', import.meta.url),
    ...more,
  }
  router.get('/', ctx => {
    ctx.type = 'html'
    ctx.body = pageOf(url)
  })
  router.get('/client.js', clientScript())
  serveSource(router)
  for (const [path, file] of Object.entries(files)) {
    router.get(path, ctx => {
      ctx.type = extname(file.pathname)
      ctx.body = createReadStream(file)
    })
  }
}

/**
 * Resolves when the app listens. Port 0 means any free port.
 *
 * @param {{ callback(): http.RequestListener }} app
 * @param {number} port
 * @param {string} host
 */
export async function listen(app, port, host) {
  const server = http.createServer(app.callback()).listen(port, host)
  await once(server, 'listening')
  const address = /** @type {import('node:net').AddressInfo} */ (server.address())
  return { server, port: address.port }
}

/**
 * Starts the example if its server.js is the program that runs, but not if a test imports it. `file` is where it keeps
 * what a restart must not lose, if it keeps anything: `DATA`, or undefined for `DATA=memory`.
 *
 * @param {string} url
 * @param {(options: { port: number, host: string, file: string | undefined }) => Promise<{ port: number, close(): Promise<void> }>} start
 */
export async function runIfMain(url, start) {
  if (realpathSync(process.argv[1] ?? '.') !== fileURLToPath(url)) return
  const { PORT = 3000, HOST = '127.0.0.1', DATA = inFolder(url) } = process.env
  const file = DATA === 'memory' ? undefined : DATA
  const { port, close } = await start({ port: Number(PORT), host: HOST, file }).catch(orPortTaken)
  let isClosing = false
  const end = () => {
    if (!isClosing) close()
    isClosing = true
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end)
  if (process.env.npm_lifecycle_event) onceOrphaned(end)
  // Last: whoever waits for the address may end this process at once.
  console.log(`http://localhost:${port}`)
}

/** In the example's folder; git ignores it. @param {string} url */
function inFolder(url) {
  return fileURLToPath(new URL('data/events.db', url))
}

/** Says how to choose another port, which a stack trace does not. @returns {never} */
function orPortTaken(error) {
  if (error.code !== 'EADDRINUSE') throw error
  console.error(`Port ${error.port} is taken. Choose another one, such as: PORT=3100 npm start`)
  process.exit(1)
}

/**
 * SIGTERM to `npm start` ends npm and its shell, but the shell does not pass the signal on. Without
 * this check the server would keep running, and keep the port.
 *
 * @param {() => void} end
 */
function onceOrphaned(end) {
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    end()
  }, 250)
  timer.unref()
}
