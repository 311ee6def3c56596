// @ts-check
import { closeGracefully } from 'koa-sse-pool'
import { listen, runIfMain } from '../shared/serve.js'
import { openStorage } from '../shared/storage.js'
import { createApp } from './app.js'

export async function start({
  port = 0,
  host = '127.0.0.1',
  file = /** @type {string | undefined} */ (undefined), // where the jobs are kept; by default in memory
  ...options
} = {}) {
  const { app, takeUp, close } = createApp({ storage: openStorage(file), ...options })
  await takeUp()
  const site = await listen(app, port, host)
  return {
    port: site.port,
    close: () => close(pool => closeGracefully(site.server, pool, { spread: 500 })),
  }
}

runIfMain(import.meta.url, start)
