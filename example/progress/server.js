// @ts-check
import { closeAll, listen, runIfMain } from '../shared/serve.js'
import { createApp } from './app.js'

runIfMain(import.meta.url, async ({ port, host }) => {
  const { app, pool } = createApp()
  const site = await listen(app, port, host)
  return { port: site.port, close: () => closeAll([pool], [site.server]) }
})
