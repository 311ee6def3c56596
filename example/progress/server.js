// @ts-check
import { closeGracefully } from 'koa-sse-pool'
import { listen, runIfMain } from '../shared/serve.js'
import { createApp } from './app.js'

runIfMain(import.meta.url, async ({ port, host }) => {
  const { app, pool } = createApp()
  const site = await listen(app, port, host)
  return { port: site.port, close: () => closeGracefully(site.server, pool, { spread: 500 }) }
})
