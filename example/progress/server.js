// @ts-check
import { closeGracefully } from 'koa-sse-pool'
import { listen, runIfMain } from '../shared/serve.js'
import { createApp } from './app.js'

runIfMain(import.meta.url, async ({ port, host }) => {
  const { app, pool, runs } = createApp()
  const site = await listen(app, port, host)
  async function close() {
    // In your app wait for the jobs. Here they would be lost anyway, because they are kept in memory.
    await runs.close({ timeout: 0 })
    await closeGracefully(site.server, pool, { spread: 500 })
  }
  return { port: site.port, close }
})
